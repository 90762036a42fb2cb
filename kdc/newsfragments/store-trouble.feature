What is wrong with the database, such as an etcd that does not answer or holds what no KDC wrote, is in the KDC's log as `store-trouble`, and `store-well` when it is over.
