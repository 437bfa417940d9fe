# Completion of layersmith for bash. The candidates come from `layersmith __complete`, hence from the parser itself.
_layersmith() {
    local mode value
    COMPREPLY=()
    {
        read -r mode
        while IFS=$'\t' read -r value _; do COMPREPLY+=("$value"); done
    } < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    case $mode in files) compopt -o default ;; dirs) compopt -o dirnames ;; esac
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -F _layersmith layersmith
