// Maximum, tail and moment.
const HAS_MOMENTS = false;
