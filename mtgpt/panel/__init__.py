"""Regular grids of a city's series, with graph, scales, calendar and covariates."""
