"""Contract suites for users' own methods, forms, recipes, encodings and networks; ddjax's tests use them too.

    from ddjax import testing

    testing.check_method(testing.MethodCase(make_my_method, my_form, small_data))

or under pytest, where each promise is a test with a name:

    @pytest.mark.parametrize("check", testing.METHOD_CHECKS)
    def test_my_method(check):
        testing.METHOD_CHECKS[check](testing.MethodCase(make_my_method, my_form, small_data))

A check of a promise that is not kept raises a `ContractError`, which says what was expected, what was found
and what to do.
"""

from ddjax.testing.encodings import ENCODING_CHECKS, EncodingCase, check_encoding
from ddjax.testing.forms import FORM_CHECKS, FormCase, check_form
from ddjax.testing.methods import METHOD_CHECKS, MethodCase, check_method
from ddjax.testing.networks import NETWORK_CHECKS, NetworkCase, check_network
from ddjax.testing.programs import PROGRAM_CHECKS, ProgramCase, check_program
from ddjax.testing.recipes import RECIPE_CHECKS, RecipeCase, check_recipe
from ddjax.testing.report import ContractError

__all__ = [
    "ENCODING_CHECKS",
    "FORM_CHECKS",
    "METHOD_CHECKS",
    "NETWORK_CHECKS",
    "PROGRAM_CHECKS",
    "RECIPE_CHECKS",
    "ContractError",
    "EncodingCase",
    "FormCase",
    "MethodCase",
    "NetworkCase",
    "ProgramCase",
    "RecipeCase",
    "check_encoding",
    "check_form",
    "check_method",
    "check_network",
    "check_program",
    "check_recipe",
]
