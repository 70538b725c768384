//! Decimal text to integers, without binary floating point on the way.

/// Returns a decimal number (as JSON writes it, a sign and an exponent included) times 10 to the power of `scale`,
/// rounded to the nearest integer, a half away from zero. `None` for text that is no number, for results beyond `i128`
/// and for numbers that are not zero but would become it.
pub(crate) fn scaled(text: &str, scale: i32) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let power = exponent.checked_add(scale)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    let result = match factor {
        _ if value == 0 => 0,
        Some(factor) if power >= 0 => value.checked_mul(factor)?,
        // A power of ten is 1 or even.
        Some(factor) => value / factor + i128::from(value % factor * 2 >= factor && factor > 1),
        None => return None,
    };
    if result == 0 && value != 0 {
        return None;
    }
    Some(if negative { -result } else { result })
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn decimals_become_exact_integers() {
        for (text, pico) in [
            ("2.5e-06", 2_500_000),
            ("1e-05", 10_000_000),
            ("0.009", 9_000_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("0e999", 0),
            ("3", 3_000_000_000_000),
            ("-1.5E+2", -150_000_000_000_000),
            ("0.0000029999900000000002", 2_999_990),
            ("1.5e-12", 2),
            ("-1.5e-12", -2),
            ("1.4999999e-12", 1),
            ("0.30000000000000000000", 300_000_000_000),
        ] {
            assert_eq!(scaled(text, 12), Some(pico), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_number_is_refused() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "--1", "1e", "1e300", "1e-13", "\"1\"", "NaN", "1_0",
            " 1", "0x1", "1.-5",
        ] {
            assert_eq!(scaled(text, 12), None, "{text}");
        }
        assert_eq!(scaled("1e99999999999", 12), None);
    }
}
