"""Which layers need more bits: ``search`` asks, ``engine`` takes the steps in order, ``result`` tells what came out.

Every quantizer is measured alone at the model's outputs (``measuring``); noise nearly adds, so a knapsack proposes
(``allocation``) and the joint model decides (``judge``, ``reasons``); what costs no bits is tried beside (``tuning``).
``for_step1`` is what step 1 measures unasked. ``docs/search.md`` tells it as a story.
"""
