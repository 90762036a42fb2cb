`make bench` has tickets of the realm for tests beside those of krb5kdc, and the start of a realm beside k5test's; its client takes the AS replies of MIT's KDC, which have another tag.
