The principal database can hold Kerberos keys and service names beside a principal's own key: docs/store.md, version 2. A store without them is written as before, byte for byte.
