"""The lecture: forward and backward propagation of an L-layer network; imports only numpy."""
