# bash completion of parityd. The executable itself says what may come: its own verbs and flags, and
# the names that the daemon has.
_parityd() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        if [[ $word == "<files>" ]]; then
            compopt -o default
        else
            COMPREPLY+=("$word")
        fi
    done < <("$1" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _parityd parityd
