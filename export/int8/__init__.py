"""INT8: records a show's step inputs, quantises the step graph, and keeps the layers in float that need it."""
