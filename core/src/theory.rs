//! What the theory says of an objective. (filled next)
