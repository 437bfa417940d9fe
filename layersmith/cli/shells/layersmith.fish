# Completion of layersmith for fish. The candidates come from `layersmith __complete`, hence from the parser itself.
function __layersmith_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
    switch "$lines[1]"
        case files
            __fish_complete_path $current
        case dirs
            __fish_complete_directories $current
    end
    for line in $lines[2..-1]
        echo $line
    end
end
complete -c layersmith -f -a '(__layersmith_complete)'
