Errors of the library name no command or option: `kdc.errors.KDCError` has a `kind` and `facts` for programs that say themselves what to do.
