"""The squared loss with the cost a s^2: curvature split between the Gram matrix and the perspective, searched exactly."""
