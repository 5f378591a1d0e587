"""The values of the generated text, as people write them."""

from random import Random


def basic_value(random: Random) -> str:
    """A value in 0..100 with none, one or two decimals."""
    return f"{random.uniform(0, 100):.{random.choice((0, 1, 1, 2))}f}"


def extreme_value(random: Random) -> str:
    """A value of either sign, log-uniform in 1e-6..1e6, with two to six significant digits.

    Plain decimals (half of the large ones with thousands separators) or scientific writing.
    """
    digits = random.randint(2, 6)
    mantissa, exponent_text = f"{10 ** random.uniform(-6, 6):.{digits - 1}e}".split("e")
    exponent = int(exponent_text)
    sign = random.choice(("", "-"))
    if random.random() < 0.4:
        return f"{sign}{mantissa}e{exponent_text if random.random() < 0.5 else exponent}"
    separator = "," if random.random() < 0.5 else ""
    return f"{sign}{float(mantissa) * 10.0**exponent:{separator}.{max(digits - 1 - exponent, 0)}f}"


def boundary_value(random: Random) -> str:
    """0, 1, a value in [0, 1], or one just inside its ends (1e-4..1e-2 away)."""
    kind = random.random()
    if kind < 0.1:
        return "0"
    if kind < 0.2:
        return "1"
    if kind < 0.6:
        return f"{random.uniform(0, 1):.{random.randint(1, 4)}f}"
    decimals = random.randint(2, 4)
    distance = random.randint(1, 9) * 10**-decimals
    return f"{distance if kind < 0.8 else 1 - distance:.{decimals}f}"
