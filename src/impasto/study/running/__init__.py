"""Running a study: `runner` checks it, has it driven and sums up.

`rounds` says how many questions are asked, `driving` has units answered and saved, `stopping` ends
that without losing work; `estimate` says beforehand what it costs, `costing` measures what its
plans cost, `budget` says what memory it may take, `recognising` which model it has.
"""
