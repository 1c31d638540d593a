//! Names that people choose: each parsed once, and harmless in XML, YAML, a shell and a path afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::cause::{self, Cause, Reason, shortened};
use crate::limits;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $parse:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(into = "String")]
        pub struct $name(String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                cause::from_text(deserializer)
            }
        }

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Cause;
            fn from_str(text: &str) -> Result<Self, Cause> {
                $parse(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Cause;
            fn try_from(text: String) -> Result<Self, Cause> {
                $parse(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A VM's name and its guest's hostname: one label of RFC 1123, lower case.
    VmName, vm_name
);
name!(
    /// A tag of an image in the catalogue: letters, digits, `.`, `_`, `-`, at most 128, not 64 hexadecimal digits.
    ImageName, image_name
);
name!(
    /// A network of the catalogue: one label of RFC 1123, lower case.
    NetworkName, network_name
);
name!(
    /// A Linux network interface: at most 15 bytes (`IFNAMSIZ`), letters, digits, `.`, `_`, `-`.
    InterfaceName, interface_name
);

fn vm_name(text: &str) -> Result<(), Cause> {
    label(text, "VM name")
}

fn network_name(text: &str) -> Result<(), Cause> {
    label(text, "network name")
}

fn label(text: &str, what: &str) -> Result<(), Cause> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(Cause::new(Reason::Invalid, format!("`{}` is not a {what}", shortened(text)))
        .advise("use 1 to 63 lower-case letters, digits and `-`, neither first nor last a `-` (RFC 1123)"))
}

fn image_name(text: &str) -> Result<(), Cause> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let like_digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.len() <= 128 && starts && text.bytes().all(charset) && !like_digest {
        return Ok(());
    }
    Err(Cause::new(Reason::Invalid, format!("`{}` is not an image name", shortened(text))).advise(
        "use 1 to 128 letters, digits, `.`, `_`, `-`, first a letter or digit, and not the form of a SHA-256 digest",
    ))
}

fn interface_name(text: &str) -> Result<(), Cause> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if text.len() <= 15 && starts && text.bytes().all(charset) {
        return Ok(());
    }
    Err(Cause::new(Reason::Invalid, format!("`{}` is not an interface name", shortened(text)))
        .advise("use 1 to 15 letters, digits, `.`, `_`, `-`, first a letter or digit"))
}

/// A label's key and value: printable, bounded, no control characters.
///
/// # Errors
/// `INVALID` or `TOO_LARGE`, naming the label.
pub fn check_label(key: &str, value: &str) -> Result<(), Cause> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if key.is_empty() || !key.bytes().all(charset) {
        return Err(Cause::new(Reason::Invalid, format!("`{}` is not a label's key", shortened(key)))
            .advise("use letters, digits, `.`, `_`, `-`, `/`"));
    }
    if key.len() > limits::LABEL_BYTES || value.len() > limits::LABEL_BYTES {
        return Err(Cause::new(Reason::TooLarge, format!("label `{}` is too long", shortened(key)))
            .advise(format!("at most {} bytes each for key and value", limits::LABEL_BYTES)));
    }
    if value.chars().any(char::is_control) {
        return Err(Cause::new(
            Reason::Invalid,
            format!("label `{key}` has control characters in its value"),
        )
        .advise("use printable text"));
    }
    Ok(())
}
