Completion works in bash, zsh and fish as they are used: also when the script is sourced in zsh, behind options that stand between the words of a command, and for `kdc` (`kdc completion bash`).
