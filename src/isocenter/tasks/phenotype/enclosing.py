"""Bodies that enclose a cloud of points: the least box of any direction, and the least ellipsoid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import ConvexHull

__all__ = ["ellipsoid_area", "least_box", "least_ellipsoid"]

_BEST_FACES = 16
_TOLERANCE = 1e-4
_ROUNDS = 20_000
_FACES_AT_ONCE = 512
_TERMS = 20


def least_box(hull: ConvexHull) -> Float[np.ndarray, "3"]:
    """Return the three edges of a small box around a hull.

    One side of the box lies on a face of the hull. All faces are tried with the box turned along an edge of theirs; the
    best are then tried with the box turned along every edge of the hull's shadow on them, which is the least for that
    face. The least box of all may have two sides on edges only, and can be smaller by a few per cent.

    Source:
        O'Rourke 1985 for what the exact box would need; Freeman and Shapira 1975 for the box in the plane.
    """
    points = hull.points[hull.vertices]
    normals, first = np.unique(hull.equations[:, :3].round(9), axis=0, return_index=True)
    normals = normals / np.linalg.norm(normals, axis=1)[:, None]
    corners = hull.points[hull.simplices[first]]
    best = np.empty(len(normals))
    for start in range(0, len(normals), _FACES_AT_ONCE):
        part = slice(start, start + _FACES_AT_ONCE)
        along = corners[part, 1] - corners[part, 0]
        along /= np.linalg.norm(along, axis=1)[:, None]
        axes = (normals[part], along, np.cross(normals[part], along))
        best[part] = np.prod([np.ptp(axis @ points.T, axis=1) for axis in axes], axis=0)
    boxes = [_box_on(points, normals[face]) for face in np.argsort(best, kind="stable")[:_BEST_FACES]]
    return min(boxes, key=lambda edges: float(np.prod(edges)))


def _box_on(points: Float[np.ndarray, "n 3"], normal: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    least = int(np.abs(normal).argmin())
    u = np.cross(normal, np.eye(3)[least])
    u /= np.linalg.norm(u)
    shadow = points @ np.stack([u, np.cross(normal, u)], axis=1)
    outline = shadow[ConvexHull(shadow).vertices]
    edges = np.roll(outline, -1, axis=0) - outline
    edges /= np.linalg.norm(edges, axis=1)[:, None]
    along = np.ptp(outline @ edges.T, axis=0)
    across = np.ptp(outline @ np.stack([-edges[:, 1], edges[:, 0]]), axis=0)
    turned = int((along * across).argmin())
    return np.array([np.ptp(points @ normal), along[turned], across[turned]])


def least_ellipsoid(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """Return the semi-axes of the least ellipsoid around points, largest first, to about one part in ten thousand.

    Source:
        Khachiyan's algorithm with steps away (Todd and Yildirim 2007).
    """
    n, d = points.shape
    lifted = np.vstack([points.T, np.ones(n)])
    weights = np.full(n, 1 / n)
    inverse = np.linalg.inv(lifted * weights @ lifted.T)
    reach = np.einsum("in,ij,jn->n", lifted, inverse, lifted)
    for _ in range(_ROUNDS):
        far = int(reach.argmax())
        used = np.flatnonzero(weights > 0)
        near = int(used[reach[used].argmin()])
        more, less = reach[far] / (d + 1) - 1, 1 - reach[near] / (d + 1)
        if max(more, less) < _TOLERANCE:
            break
        chosen = far if more >= less else near
        k = reach[chosen]
        step = (k - d - 1) / ((d + 1) * (k - 1))
        if chosen == near and more < less:
            step = max(step, -weights[near] / (1 - weights[near]))
        # The inverse and every reach follow from one rank-one change.
        column = inverse @ lifted[:, chosen]
        scale = step / (1 - step + step * k)
        reach = (reach - scale * (column @ lifted) ** 2) / (1 - step)
        inverse = (inverse - scale * np.outer(column, column)) / (1 - step)
        weights *= 1 - step
        weights[chosen] = max(0.0, weights[chosen] + step)
    centre = points.T @ weights
    spread = (points.T * weights) @ points - np.outer(centre, centre)
    reach = np.einsum("ni,ij,nj->n", points - centre, np.linalg.inv(spread), points - centre)
    return np.asarray(np.sqrt(np.linalg.eigvalsh(spread)[::-1] * reach.max()))


def ellipsoid_area(semi_axes: Float[np.ndarray, "3"]) -> float:
    """Return the surface area of an ellipsoid as the IBSI manual has it: the first 21 terms of a Legendre series.

    Its eccentricities are both taken against the longest axis. The series is exact for a sphere; of other ellipsoids
    the area comes out a few per cent small, and so do the reference values.

    Args:
        semi_axes: Longest first.

    Source:
        IBSI manual, area density - approximate enclosing ellipsoid (RDD2).

    Example:
        >>> round(ellipsoid_area(np.array([2.0, 2.0, 2.0])), 6)
        50.265482
    """
    a, b, c = semi_axes.tolist()
    alpha, beta = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    # Terms (alpha beta)^n P_n((alpha^2 + beta^2) / (2 alpha beta)), by the recursion of P_n, without the division.
    before, now, total = 0.0, 1.0, 1.0
    for n in range(_TERMS):
        before, now = now, ((2 * n + 1) * (alpha + beta) / 2 * now - n * alpha * beta * before) / (n + 1)
        total += now / (1 - 4 * (n + 1) ** 2)
    return float(4 * np.pi * a * b * total)
