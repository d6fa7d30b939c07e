"""Exact cosine top-k with FAISS (eq. 3), in an order that does not depend on rounding.

Similarities are compared at 6 decimals, about what float32 unit vectors carry: two items with the same caption tie, whatever
batches they were encoded in. A tie goes to the more recent candidate. FAISS finds the candidates; they are scored again in
float64 row by row, for the blocked product that FAISS may use gives equal rows at different places different last bits.

Shapes: N candidates (oldest first), M fetched, K returned, D dimensions.
"""

from __future__ import annotations

import numpy as np

DECIMALS = 6
SLACK = 16  # candidates fetched beyond k before looking for ties
FAISS_ERROR = 1e-5  # bound on the error of a float32 inner product of unit vectors with some thousand dimensions


def search_top_k(query_D: np.ndarray, candidate_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices (K,) and cosines (K,) of the min(k, N) most similar rows: higher cosine first, then the later row."""
    num_candidates = len(candidate_ND)
    k = min(k, num_candidates)
    if k < 1:
        return np.empty(0, np.int64), np.empty(0)
    query_1D, unit_ND = to_unit_rows(query_D[None]), to_unit_rows(candidate_ND)
    num_fetched = min(num_candidates, k + SLACK)
    while True:
        index_M, rough_M = search_faiss(query_1D, unit_ND, num_fetched)
        score_M = np.round((unit_ND[index_M] * query_1D).sum(axis=1), DECIMALS)
        order_K = np.lexsort((-index_M, -score_M))[:k]
        if num_fetched == num_candidates or rough_M[-1] < score_M[order_K[-1]] - FAISS_ERROR:
            return index_M[order_K], score_M[order_K]
        num_fetched = min(num_candidates, 2 * num_fetched)  # the last ones may tie with some not fetched


def compute_cosines(query_D: np.ndarray, candidate_ND: np.ndarray) -> np.ndarray:
    """Return the cosine of every row (N,), rounded as those of `search_top_k`."""
    return np.round((to_unit_rows(candidate_ND) * to_unit_rows(query_D[None])).sum(axis=1), DECIMALS)


def search_faiss(query_1D: np.ndarray, unit_ND: np.ndarray, num_fetched: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and float32 inner products of the best rows, best first."""
    import faiss

    index = faiss.IndexFlatIP(unit_ND.shape[1])
    index.add(np.ascontiguousarray(unit_ND, dtype=np.float32))
    score_1M, index_1M = index.search(np.ascontiguousarray(query_1D, dtype=np.float32), num_fetched)
    return index_1M[0], score_1M[0]


def to_unit_rows(vector_ND: np.ndarray) -> np.ndarray:
    """Return float64 rows of length 1; a zero row stays zero and is similar to nothing."""
    vector_ND = vector_ND.astype(np.float64)
    norm_N1 = np.sqrt((vector_ND * vector_ND).sum(axis=1, keepdims=True))
    return vector_ND / np.where(norm_N1 > 0, norm_N1, 1.0)
