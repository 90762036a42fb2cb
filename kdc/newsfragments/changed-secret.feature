A running receiver whose secret is changed reads its file again, or says that it has to be restarted.
