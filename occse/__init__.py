"""OC-CSE: ordinary classifiers teach a network to generate better class activation maps (Kweon et
al., ICCV 2021).
"""
