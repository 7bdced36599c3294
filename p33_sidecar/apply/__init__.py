"""The Apply Layer that comes with the house: plan, both permits, one reduce-only order, one result.

What may not happen here: an order without the permits taken by this very process, an order sent twice, a quantity other
than the permit's, a taken permit without a result in the end. Source: contract, chapter 4.

How it fits together: `main` (settings, signals) → `reader` (the plan stream) → `workers` (a line for each symbol) →
`layer` (one plan) → `orders` (the exchange) and `results` (what is said). Between the taking and the result an order is
an `intent`, kept by the same Redis step that takes the permits; whatever ends the process that took them, the `finder`
of any living one looks for the order at the exchange and says what became of it. It never sends.
"""
