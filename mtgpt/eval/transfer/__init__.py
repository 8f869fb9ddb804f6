"""How well what was learned in some cities serves another: the plan, the cells, the statistics, the report."""
