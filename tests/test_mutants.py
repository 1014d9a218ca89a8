"Mistakes that are one change away from a solution: what they compute, and which ones are kept."
import numpy as np

from tinytorch.checking import check_of
from tinytorch.checking.checks import make_check, no_numbers
from tinytorch.checking.mutants import changed_code, changed_options, mutants


def twice(x, *, negate):
    result = x + x
    return -result if negate else result


CALLS = [({"x": np.array([1.0, 3.0])}, {"negate": negate}) for negate in (False, True)]


def test_one_change_of_the_code_changes_the_function():
    found = {tuple(mutant(x=np.array([1.0, 3.0]), negate=False)) for _, _, mutant in changed_code(twice)}
    assert {(0.0, 0.0), (-2.0, -6.0)} <= found


def test_flags_are_fixed_at_their_own_values_and_numbers_also_at_0_and_1():
    assert [text for text, _, _ in changed_options(twice, CALLS)] == [
        "`negate` is not used: it is False in your code.", "`negate` is not used: it is True in your code."]
    numbers = [({"x": np.ones(1)}, {"by": by}) for by in (2.0, 3.0)]
    texts = [text for text, _, _ in changed_options(lambda x, *, by: by * x, numbers)]
    assert [text.split(" it is ")[1] for text in texts] == [
        f"{value} in your code." for value in ("2", "3", "0", "1")]


def test_a_mutant_that_raises_where_there_are_samples_is_none():
    calls = [*CALLS, ({"x": np.empty(0)}, {"negate": False})]
    check = make_check("twice", twice, calls)
    assert [no_numbers(expected) for expected in check.expected] == [False, False, True]

    def below_largest(x, *, negate):
        return x - x.max()

    def below_sixth(x, *, negate):
        return x - x[5]

    ignored = "`negate` is not used: it is False in your code."
    assert ignored in [mistake.text for mistake in mutants(below_largest, check)]
    assert ignored not in [mistake.text for mistake in mutants(below_sixth, check)]


def test_a_solution_has_mutants_that_differ_from_it():
    check = check_of("huber", np.random.default_rng(0))
    assert len(check.found) > 10 and len({mistake.text for mistake in check.found}) > 5
