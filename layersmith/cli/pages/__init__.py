"""Pages for a browser: one file each, that asks the network for nothing. In: a build, or an image. Out: HTML.

``html`` makes elements of values, ``page`` puts them together with `style.css` and a script, and forbids the browser
everything else; ``timeline``, ``report`` and ``trees`` are what is on them.
"""
