"""Names for containers that got none: an adjective and a thing of the forge."""

from __future__ import annotations

import os

_LEFT = """able agile amber ample azure bold brave brisk bronze calm candid clever cosy crisp deft eager early fair
fleet fond frank gentle glad golden grand happy hardy honest humble jolly keen kind lively lucid lucky mellow merry
mild neat nimble noble patient placid plucky polite proud quick quiet ready robust royal rustic sage serene sharp shiny
silent silver sleek smart snug sober solid spry steady stoic sturdy subtle sunny swift tidy tranquil trusty upbeat
vivid warm whole wise witty zesty"""

_RIGHT = """alloy anvil awl axe bellows billet blade bolt brace brand buckle burin chain chisel clamp clasp coal crest
crucible dagger die drift ember fender ferrule file flame flint flux forge fuller furnace gate gear grate hammer
handle hardy hasp hatchet hearth hinge hook hoop horseshoe ingot iron kettle key knife ladle lamp lantern latch link lock
mallet mandrel needle nail pin pincers plate plough poker punch rasp ring rivet rod sabre saw scale scissors
shield shovel sickle sieve slag smelter snips spade spark spur steel stirrup sword swage tap temper thimble tine
tongs trowel vane vise weld wedge wire wrench"""


def random_name() -> str:
    """Such as ``brisk_anvil``; not unique."""
    # Not `random`, whose import takes as long as making the container's directory and all that is in it.
    number = int.from_bytes(os.urandom(4), "big")
    left, right = _LEFT.split(), _RIGHT.split()
    return f"{left[number % len(left)]}_{right[number // len(left) % len(right)]}"
