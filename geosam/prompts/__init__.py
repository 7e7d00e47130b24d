"""Where prompts come from, one file a source. Each gives points, boxes or masks for one tile, from
nothing but that tile's own window, so that a tile has the same prompts whatever extent was asked
for.
"""
