// Also collision, spread, energy and count.
const HAS_MOMENTS = true;
