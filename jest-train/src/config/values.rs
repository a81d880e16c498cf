//! Values that TOML has no type for: a gain that may be infinite, a share of the run, a word, one or many.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Factor on the scores at the draw: a number, or `"inf"`, in TOML and in JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain(pub f32);

impl Default for Gain {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Serialize for Gain {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { to.serialize_f32(self.0) } else { to.serialize_str(&self.0.to_string()) }
    }
}

impl<'de> Deserialize<'de> for Gain {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NumberOrInf;
        impl Visitor<'_> for NumberOrInf {
            type Value = Gain;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"inf\"")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Gain, E> {
                Ok(Gain(value as f32))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Gain, E> {
                Ok(Gain(value as f32))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Gain, E> {
                Ok(Gain(value as f32))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Gain, E> {
                if value == "inf" {
                    Ok(Gain(f32::INFINITY))
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                }
            }
        }
        from.deserialize_any(NumberOrInf)
    }
}

/// Length of the warm-up: steps, or a share of the run as `"1%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Share {
    Steps(u64),
    Percent(f64),
}

impl Share {
    /// Steps of a run of `steps`, rounded to the nearest as the paper's 916 of 91,553 are.
    pub(super) fn of(self, steps: u64) -> u64 {
        match self {
            Self::Steps(warmup) => warmup,
            Self::Percent(percent) => (steps as f64 * percent / 100.0).round() as u64,
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::Percent(1.0)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Steps(steps) => to.serialize_u64(*steps),
            Self::Percent(percent) => to.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct StepsOrPercent;
        impl Visitor<'_> for StepsOrPercent {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of steps, or a share from \"0%\" to \"100%\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Share, E> {
                let steps = u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))?;
                Ok(Share::Steps(steps))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Share, E> {
                let percent = value.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                match percent.filter(|percent| (0.0..=100.0).contains(percent)) {
                    Some(percent) => Ok(Share::Percent(percent)),
                    None => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        from.deserialize_any(StepsOrPercent)
    }
}

/// Words that a type of another crate reads and writes itself; for `#[serde(with = "word")]`.
pub(super) mod word {
    use super::*;

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// As [`word`], for a key that may be absent.
pub(super) mod optional_word {
    use super::*;

    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        word::deserialize(from).map(Some)
    }
}

/// A list of texts, or one text for a list of one; for `#[serde(deserialize_with = "one_or_many")]`.
pub(super) fn one_or_many<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + From<String>,
    D: Deserializer<'de>,
{
    struct OneOrMany<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::from(value.to_owned())])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    from.deserialize_any(OneOrMany(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Holder {
        #[serde(default)]
        gain: Gain,
        #[serde(default)]
        warmup: Share,
    }

    #[test]
    fn gains_and_shares() {
        for (text, gain, warmup) in [
            ("", 1.0, Share::Percent(1.0)),
            ("gain = 100\nwarmup = 5", 100.0, Share::Steps(5)),
            ("gain = 0.5\nwarmup = '2.5%'", 0.5, Share::Percent(2.5)),
            ("gain = 'inf'", f32::INFINITY, Share::Percent(1.0)),
            ("gain = inf", f32::INFINITY, Share::Percent(1.0)),
        ] {
            assert_eq!(toml::from_str::<Holder>(text).unwrap(), Holder { gain: Gain(gain), warmup }, "{text}");
        }
        for text in ["gain = 'much'", "warmup = -1", "warmup = '101%'", "warmup = '1'", "warmup = 1.5"] {
            assert!(toml::from_str::<Holder>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_round_as_the_paper_does() {
        for (steps, expected) in [(91_553, 916), (122_070, 1_221), (20, 0), (100, 1)] {
            assert_eq!(Share::default().of(steps), expected);
        }
        assert_eq!(Share::Steps(7).of(3), 7);
    }

    #[test]
    fn an_infinite_gain_is_a_word_in_json() {
        assert_eq!(serde_json::to_string(&[Gain(1.0), Gain(f32::INFINITY)]).unwrap(), "[1.0,\"inf\"]");
        assert_eq!(serde_json::from_str::<Vec<Gain>>("[1, \"inf\", 0.5]").unwrap()[1], Gain(f32::INFINITY));
    }
}
