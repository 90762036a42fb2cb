`-h`, `help`, `help COMMAND`, `python -m kdc`; the options of `kdc admin` behind its command, too; `kdc admin list` fits 80 columns and tells who was there when.
