"""The model: a backbone, an upsampler and a head behind one contract. A Pyramid goes in, a Pyramid comes out."""
