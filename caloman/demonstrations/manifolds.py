"""Manifolds in two or three dimensions with points on them.

References:
    Brehmer and Cranmer, Flows for simultaneous manifold learning and density estimation (arXiv:2003.13913).
"""

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval2d
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import logsumexp
from scipy.stats import norm, special_ortho_group

Array = NDArray[np.floating]


class Circle:
    """The unit circle, with a normal distribution of the angle around the top and, if wanted, of the radius.

    Args:
        noise: standard deviation of the radius; 0 for points on the circle.
        angle: mean of the angle, of which every turn counts [rad].
        width: its standard deviation [rad].
    """

    features, intrinsic = 2, 1

    def __init__(self, noise: float = 0.01, angle: float = np.pi / 2, width: float = np.pi / 4) -> None:
        self.noise, self.angle, self.width = noise, angle, width

    def sample(self, n: int, seed: int) -> Array:
        """Points, shape (n, 2)."""
        rng = np.random.default_rng(seed)
        angle, radius = rng.normal(self.angle, self.width, n), rng.normal(1, self.noise, n)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def project(self, x: Array) -> Array:
        """Nearest points of the circle to points (N, 2), same shape."""
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def log_prob_on_manifold(self, x: Array) -> Array:
        """Logarithm of the density per unit of length at the projections of points (N, 2), shape (N,)."""
        turns = 2 * np.pi * np.arange(-4, 5)
        angle = np.arctan2(x[:, 1], x[:, 0])[:, None] + turns
        return logsumexp(norm.logpdf(angle, self.angle, self.width), axis=1)

    def log_prob(self, x: Array) -> Array:
        """Logarithm of the density in the plane, with noise, at points (N, 2), shape (N,)."""
        radius = np.linalg.norm(x, axis=1)
        return self.log_prob_on_manifold(x) + norm.logpdf(radius, 1, self.noise) - np.log(radius)


class PolynomialSurface:
    """A rotated surface z = exp(-(u^2 + v^2) / 10) P(u, v) with a mixture of two Gaussians of u and v.

    P is a random polynomial of degree 5, whose coefficients fall with the third power of the degree. The paper's own
    coefficients exist as a file only; here they and the rotation follow from a seed.

    Args:
        theta: from -1 to 1, makes the narrow component 0.2 to 1 wide.
        seed: of the coefficients and the rotation.
    """

    features, intrinsic = 3, 2
    degree, suppression = 5, 0.1
    weights = np.array([0.6, 0.4])
    means = np.array([[1.0, -1.0], [-1.0, 1.0]])

    def __init__(self, theta: float = 0.0, seed: int = 0) -> None:
        self.widths = np.array([2.0, 0.6 + 0.4 * theta])
        rng = np.random.default_rng(seed)
        power = np.add.outer(range(self.degree + 1), range(self.degree + 1))
        spread = np.where(power <= self.degree, np.maximum(power, 1.0) ** -3, 0)
        self.coefficients = spread * rng.standard_normal(power.shape)
        self.rotation = special_ortho_group.rvs(3, random_state=rng)

    def sample(self, n: int, seed: int) -> Array:
        """Points, shape (n, 3)."""
        rng = np.random.default_rng(seed)
        component = rng.choice(2, n, p=self.weights)
        return self.embed(self.means[component] + self.widths[component, None] * rng.standard_normal((n, 2)))

    def embed(self, uv: Array) -> Array:
        """Points (N, 3) of the surface at coordinates (N, 2)."""
        return np.column_stack([uv, self._height(uv)[0]]) @ self.rotation.T

    def project(self, x: Array, steps: int = 50) -> Array:
        """Nearest points of the surface to points (N, 3) that are not far from it, by Gauss-Newton, same shape."""
        aligned = x @ self.rotation
        uv = aligned[:, :2].copy()
        for _ in range(steps):
            height, slopes = self._height(uv)
            residual = aligned - np.column_stack([uv, height])
            pull = residual[:, :2] + slopes * residual[:, 2:]  # J^T r of J = (1, slopes), whose Gram matrix is
            uv += pull - slopes * ((slopes * pull).sum(1) / (1 + (slopes**2).sum(1)))[:, None]  # 1 + slopes slopes^T
        return self.embed(uv)

    def log_prob_on_manifold(self, x: Array) -> Array:
        """Logarithm of the density per unit of area at points (N, 3) of the surface, shape (N,).

        The paper's code leaves the area element out: it gives the density of u and v.
        """
        uv = (x @ self.rotation)[:, :2]
        _, slopes = self._height(uv)
        return self._log_prob_of_coordinates(uv) - 0.5 * np.log1p((slopes**2).sum(axis=1))

    def _log_prob_of_coordinates(self, uv: Array) -> Array:
        gaussians = norm.logpdf(uv[:, None], self.means, self.widths[:, None]).sum(axis=2)
        return logsumexp(np.log(self.weights) + gaussians, axis=1)

    def _height(self, uv: Array) -> tuple[Array, Array]:
        """Height (N,) of the surface before its rotation, and its slopes (N, 2)."""
        u, v = uv[:, 0], uv[:, 1]
        damping = np.exp(-self.suppression * (u**2 + v**2))
        height = damping * polyval2d(u, v, self.coefficients)
        slopes = np.stack([polyval2d(u, v, polyder(self.coefficients, axis=axis)) for axis in (0, 1)], axis=1)
        return height, damping[:, None] * slopes - 2 * self.suppression * uv * height[:, None]


class Lorenz:
    """The attractor of the Lorenz system with sigma = 10, beta = 8/3 and rho = 28, of dimension 2.06.

    No density is known; the velocity is, which is tangent to the attractor.
    """

    features, intrinsic = 3, 2
    sigma, beta, rho = 10.0, 8 / 3, 28.0
    trajectories, warm_up, spacing = 100, 50.0, 0.1

    def sample(self, n: int, seed: int) -> Array:
        """Points (n, 3) in random order, from 100 trajectories at times 0.1 apart."""
        times = self.spacing * np.arange(-(-n // self.trajectories))
        return np.random.default_rng(seed).permutation(self.follow(times, seed).reshape(-1, 3))[:n]

    def follow(self, times: Array, seed: int) -> Array:
        """Trajectories from random starts near (1, 1, 1), at times after they have come to the attractor.

        Args:
            times: ascending, from 0, shape (T,).
            seed: of the starts.

        Returns:
            Points, shape (100, T, 3).
        """
        start = 1 + 0.1 * np.random.default_rng(seed).standard_normal((self.trajectories, 3))
        solution = solve_ivp(
            lambda _, points: self.velocity(points.reshape(-1, 3)).ravel(),
            (0, self.warm_up + times[-1]), start.ravel(), t_eval=self.warm_up + times, method="DOP853", rtol=1e-8,
        )  # fmt: skip
        return solution.y.reshape(self.trajectories, 3, -1).swapaxes(1, 2)

    def velocity(self, x: Array) -> Array:
        """Time derivative at points (N, 3), same shape."""
        a, b, c = x.T
        return np.stack([self.sigma * (b - a), a * (self.rho - c) - b, a * b - self.beta * c], axis=1)
