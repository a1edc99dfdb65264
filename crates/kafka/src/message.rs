//! The table language in which messages are described once, and what follows from a description.
//!
//! ```text
//! api! {
//!     Produce, versions 3..=13, flexible 9..;
//!
//!     /// Appends batches to partitions.
//!     request ProduceRequest {
//!         transactional_id: Option<Str>,
//!         acks: i16,
//!         timeout_ms: i32 = 30_000,
//!         topics: Vec<ProduceTopic>,
//!     }
//!     response ProduceResponse { ... }
//!
//!     struct ProduceTopic {
//!         name: Str [..=12, ignorable],
//!         topic_id: Uuid [13.., ignorable],
//!         ...
//!     }
//! }
//! ```
//!
//! A field is `name: Type [attributes] = default,`. The attributes, in any order and all of them optional:
//!
//! - `3..`, `..=12`, `7..=12`: the versions that have the field (all). In others decoding leaves the default, and
//!   encoding something else than the default is an error, so that nothing is lost silently,
//! - `ignorable`: unless the field is one that may be lost,
//! - `null 7..`: the versions in which an `Option` may be `None` (all),
//! - `tag 0`: a tagged field (KIP-482), left out where it has its default. Tags ascend within a struct.
//!
//! The default is the type's if there is no other. Unlike Kafka's, that of a nullable type is null.

use bytes::{Bytes, BytesMut};

use crate::wire::LengthPrefix;
use crate::{ApiKey, CodecError, Reader, Version, Wire, Writer};

/// Versions `min..=max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const ALL: Self = Self { min: 0, max: i16::MAX };

    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// Something that is encoded by itself: a request, a response, a record of an internal topic.
pub trait Message: Wire + Default {
    const NAME: &'static str;
    const VERSIONS: Versions;
    /// The first flexible version (KIP-482).
    const FLEXIBLE: i16;

    /// # Errors
    /// [`CodecError::UnsupportedVersion`].
    fn version(number: i16) -> Result<Version, CodecError> {
        match Self::VERSIONS.contains(number) {
            true => Ok(Version {
                number,
                flexible: number >= Self::FLEXIBLE,
            }),
            false => Err(CodecError::UnsupportedVersion {
                message: Self::NAME,
                version: number,
            }),
        }
    }

    /// The message in `body`, without any header. Bytes behind its end are an error.
    ///
    /// # Errors
    /// The bytes are no message of this version.
    fn decode(body: impl Into<BytesMut>, version: i16) -> Result<Self, CodecError> {
        let mut reader = Reader::new(body);
        let message = Self::read(&mut reader, Self::version(version)?)?;
        reader.finish()?;
        Ok(message)
    }

    /// The message without any header, in one piece.
    ///
    /// # Errors
    /// The version can't say what is in the message.
    fn encode(&self, version: i16) -> Result<Bytes, CodecError> {
        let mut writer = Writer::default();
        self.write(&mut writer, Self::version(version)?)?;
        Ok(writer.into_frame(LengthPrefix::Absent)?.into_bytes())
    }
}

pub trait RequestMessage: Message {
    const API: ApiKey;
    type Response: ResponseMessage;
}

pub trait ResponseMessage: Message {
    const API: ApiKey;
}

/// One field's attributes, constant in the code that reads and writes it.
pub(crate) struct Field {
    pub name: &'static str,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub ignorable: bool,
}

impl Field {
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            versions: Versions::ALL,
            nullable: Versions::ALL,
            tag: None,
            ignorable: false,
        }
    }

    pub const fn versions(self, min: i16, max: i16) -> Self {
        Self {
            versions: Versions { min, max },
            ..self
        }
    }

    pub const fn nullable(self, min: i16, max: i16) -> Self {
        Self {
            nullable: Versions { min, max },
            ..self
        }
    }

    pub const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    pub const fn ignorable(self) -> Self {
        Self {
            ignorable: true,
            ..self
        }
    }

    /// Whether it stands in the struct's body.
    pub const fn in_body(&self, version: Version) -> bool {
        self.tag.is_none() && self.versions.contains(version.number)
    }

    /// Whether it stands behind the struct's body, if it has something to say.
    pub const fn in_tags(&self, version: Version) -> bool {
        self.tag.is_some() && self.versions.contains(version.number)
    }

    pub fn read<T: Wire>(&self, reader: &mut Reader, version: Version) -> Result<T, CodecError> {
        let value = T::read(reader, version).map_err(|source| self.error(source))?;
        self.check_null(&value, version)?;
        Ok(value)
    }

    pub fn write<T: Wire>(&self, value: &T, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        self.check_null(value, version)?;
        value.write(writer, version).map_err(|source| self.error(source))
    }

    /// # Errors
    /// A value that isn't the default would be lost, and may not be.
    pub fn absent<T: PartialEq>(&self, value: &T, default: &T, version: Version) -> Result<(), CodecError> {
        if self.ignorable || self.versions.contains(version.number) || value == default {
            return Ok(());
        }
        Err(CodecError::NotInVersion {
            field: self.name,
            version: version.number,
        })
    }

    fn check_null<T: Wire>(&self, value: &T, version: Version) -> Result<(), CodecError> {
        match value.is_null() && !self.nullable.contains(version.number) {
            true => Err(self.error(CodecError::Null)),
            false => Ok(()),
        }
    }

    #[cold]
    fn error(&self, source: CodecError) -> CodecError {
        match source {
            // The innermost field says it best.
            CodecError::Field { .. } | CodecError::NotInVersion { .. } => source,
            source => CodecError::Field {
                field: self.name,
                source: Box::new(source),
            },
        }
    }
}

/// A field's attributes as written between brackets.
macro_rules! field {
    ($field:expr;) => { $field };
    ($field:expr; , $($rest:tt)*) => { field!($field; $($rest)*) };
    ($field:expr; ignorable $($rest:tt)*) => { field!($field.ignorable(); $($rest)*) };
    ($field:expr; tag $tag:literal $($rest:tt)*) => { field!($field.tag($tag); $($rest)*) };
    ($field:expr; null $min:literal ..= $max:literal $($rest:tt)*) => {
        field!($field.nullable($min, $max); $($rest)*)
    };
    ($field:expr; null $min:literal .. $($rest:tt)*) => {
        field!($field.nullable($min, i16::MAX); $($rest)*)
    };
    ($field:expr; $min:literal ..= $max:literal $($rest:tt)*) => {
        field!($field.versions($min, $max); $($rest)*)
    };
    ($field:expr; $min:literal .. $($rest:tt)*) => { field!($field.versions($min, i16::MAX); $($rest)*) };
    ($field:expr; ..= $max:literal $($rest:tt)*) => { field!($field.versions(0, $max); $($rest)*) };
}

macro_rules! default_value {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

/// A struct of the wire.
macro_rules! structure {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty $([$($attribute:tt)*])? $(= $default:expr)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: default_value!($($default)?),)* }
            }
        }

        /// The attributes of the fields, by the fields' names.
        #[allow(non_upper_case_globals, reason = "the constant is named after the field it describes")]
        impl $name {
            $(const $field: $crate::message::Field = field!(
                $crate::message::Field::new(concat!(stringify!($name), ".", stringify!($field)));
                $($($attribute)*)?
            );)*
        }

        impl $crate::Wire for $name {
            fn min_bytes(version: $crate::Version) -> usize {
                let mut bytes = usize::from(version.flexible);
                $(if Self::$field.in_body(version) {
                    bytes += <$type as $crate::Wire>::min_bytes(version);
                })*
                bytes
            }

            fn read(
                reader: &mut $crate::Reader,
                version: $crate::Version,
            ) -> Result<Self, $crate::CodecError> {
                let mut value = Self::default();
                $(if Self::$field.in_body(version) {
                    value.$field = Self::$field.read(reader, version)?;
                })*
                if version.flexible {
                    reader.tagged_fields(|_tag, _reader| {
                        $(if Self::$field.in_tags(version) && Self::$field.tag == Some(_tag) {
                            value.$field = Self::$field.read(_reader, version)?;
                            return Ok(true);
                        })*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(
                &self,
                writer: &mut $crate::Writer,
                version: $crate::Version,
            ) -> Result<(), $crate::CodecError> {
                let mut _tagged_fields = 0;
                $(
                    let default: $type = default_value!($($default)?);
                    if Self::$field.in_body(version) {
                        Self::$field.write(&self.$field, writer, version)?;
                    } else if Self::$field.in_tags(version) {
                        _tagged_fields += u32::from(self.$field != default);
                    } else {
                        Self::$field.absent(&self.$field, &default, version)?;
                    }
                )*
                if version.flexible {
                    writer.uvarint(_tagged_fields);
                    $(
                        let default: $type = default_value!($($default)?);
                        if let Some(tag) = Self::$field.tag
                            && Self::$field.in_tags(version)
                            && self.$field != default
                        {
                            writer.tagged_field(tag, |writer| Self::$field.write(&self.$field, writer, version))?;
                        }
                    )*
                }
                Ok(())
            }
        }

        /// A struct that may be null says first whether it is.
        impl $crate::wire::Nullable for $name {
            fn min_bytes(version: $crate::Version) -> usize {
                <i8 as $crate::Wire>::min_bytes(version)
            }

            fn read(
                reader: &mut $crate::Reader,
                version: $crate::Version,
            ) -> Result<Option<Self>, $crate::CodecError> {
                match <i8 as $crate::Wire>::read(reader, version)? {
                    ..0 => Ok(None),
                    _ => <Self as $crate::Wire>::read(reader, version).map(Some),
                }
            }

            fn write(
                value: Option<&Self>,
                writer: &mut $crate::Writer,
                version: $crate::Version,
            ) -> Result<(), $crate::CodecError> {
                let Some(value) = value else {
                    return $crate::Wire::write(&-1i8, writer, version);
                };
                $crate::Wire::write(&1i8, writer, version)?;
                $crate::Wire::write(value, writer, version)
            }
        }

        #[cfg(test)]
        impl $crate::testing::Fill for $name {
            fn fill(rng: &mut $crate::testing::Rng, version: $crate::Version) -> Self {
                let mut value = Self::default();
                $(if Self::$field.versions.contains(version.number) {
                    value.$field = Self::$field.fill(rng, version);
                })*
                value
            }
        }
    };
}

/// A struct that is encoded by itself.
macro_rules! message {
    (
        $(#[$meta:meta])*
        $name:ident, versions $min:literal..=$max:literal, flexible $flexible:expr, { $($fields:tt)* }
    ) => {
        structure! { $(#[$meta])* $name { $($fields)* } }

        impl $crate::Message for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: $crate::Versions = $crate::Versions { min: $min, max: $max };
            const FLEXIBLE: i16 = $flexible;
        }
    };
}

/// One API: its request, its response, and the structs in them.
macro_rules! api {
    (
        $key:ident, versions $min:literal ..= $max:literal, flexible $flexible:literal ..;
        $(#[$request_meta:meta])*
        request $request:ident { $($request_fields:tt)* }
        $(#[$response_meta:meta])*
        response $response:ident { $($response_fields:tt)* }
        $($(#[$struct_meta:meta])* struct $struct:ident { $($struct_fields:tt)* })*
    ) => {
        message! {
            $(#[$request_meta])*
            $request, versions $min..=$max, flexible $flexible, { $($request_fields)* }
        }
        message! {
            $(#[$response_meta])*
            $response, versions $min..=$max, flexible $flexible, { $($response_fields)* }
        }
        $(structure! { $(#[$struct_meta])* $struct { $($struct_fields)* } })*

        impl $crate::RequestMessage for $request {
            const API: $crate::ApiKey = $crate::ApiKey::$key;
            type Response = $response;
        }

        impl $crate::ResponseMessage for $response {
            const API: $crate::ApiKey = $crate::ApiKey::$key;
        }
    };
}
