// The divergence sees both rows as they are.
const HAS_TEMPERATURE = false;
