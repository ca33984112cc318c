"""Activated sets whose similarities are known."""

# J(A, B) = 3/5, J(A, C) = J(B, C) = 2/6, and D shares nothing
A, B, C, D = {0, 1, 2, 3}, {0, 1, 2, 4}, {0, 1, 5, 6}, {10, 11}

# a pair (9/10 alike) and a group of three around Mid
#          Pair2  Mid    C3     D3
# Pair1    9/10   5/12   3/13   2/12
# Pair2           4/12   3/12   1/12
# Mid                    5/8    4/7
# C3                            2/8
PAIR1, PAIR2 = set(range(10)), set(range(9))
MID, C3, D3 = {5, 6, 7, 8, 9, 20, 21}, {5, 6, 7, 20, 21, 22}, {8, 9, 20, 21}
