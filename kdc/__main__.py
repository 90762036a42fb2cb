"""``python -m kdc`` is ``kdc``."""

from kdc.commands.main import kdc_main

if __name__ == "__main__":
    kdc_main()
