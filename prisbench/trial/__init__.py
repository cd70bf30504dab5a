"""The door for methods: one tried on a tiny set, held to the contract of ``types.Method`` and told what to mend.

records   what a trial finds
scenes    the tiny set: a few photos, five scenes, no truth
calls     a method called with a guard
checks    the checks
child     the process that the method runs in
run       starts that process, and ends it when it does not come back
table     what the user is shown
"""
