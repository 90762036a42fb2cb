pyspnego's whole suite passes with the realm for tests as it does with MIT's KDC.
