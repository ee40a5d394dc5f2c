// The divergence sees both rows at a temperature.
const HAS_TEMPERATURE = true;
