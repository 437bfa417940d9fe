#compdef layersmith
# Completion of layersmith for zsh. The candidates come from `layersmith __complete`, hence from the parser itself.
_layersmith() {
    local -a lines plain open
    local line value
    lines=("${(@f)$("$words[1]" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    local mode=$lines[1]
    for line in "${(@)lines[2,-1]}"; do
        value=${line%%$'\t'*}
        line="${value//:/\\:}:${line#*$'\t'}"
        if [[ $value == *= ]]; then open+=("$line"); else plain+=("$line"); fi
    done
    (( $#plain )) && _describe -V layersmith plain
    (( $#open )) && _describe -V layersmith open -S ''
    case $mode in files) _files ;; dirs) _files -/ ;; esac
}
if [[ $funcstack[1] == _layersmith ]]; then
    _layersmith "$@"
else
    compdef _layersmith layersmith
fi
