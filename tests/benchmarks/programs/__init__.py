"""What the measured processes run. No module here may need anything of this repository but `docket` itself: with the
interpreter of another environment that name is pydocket's, which offers the same names."""
