`kdcclient forward --to bob ""`, `pipe bob ""` and `expose =ENDPOINT` are for the service without a name.
