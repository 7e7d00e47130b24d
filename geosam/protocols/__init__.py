"""What a model can do that was never tuned for it: the five zero-shot protocols of the SAM paper.

Each is a function of a model and a data set and returns its figures:
:func:`~geosam.protocols.single_point.single_point`, :func:`~geosam.protocols.edges.edges`,
:func:`~geosam.protocols.proposals.proposals`, :func:`~geosam.protocols.instances.instances` and
:func:`~geosam.protocols.text.text`.
"""
