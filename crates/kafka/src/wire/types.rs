//! [`Wire`] for the protocol's types.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::{Reader, Version, Wire, Writer};
use crate::{CodecError, ErrorCode, Records, Str};

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            fn min_bytes(_: Version) -> usize {
                size_of::<Self>()
            }

            fn read(reader: &mut Reader, _: Version) -> Result<Self, CodecError> {
                reader.array().map(Self::from_be_bytes)
            }

            fn write(&self, writer: &mut Writer, _: Version) -> Result<(), CodecError> {
                writer.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}

integers!(i8, i16, u16, i32, i64);

impl Wire for bool {
    fn min_bytes(_: Version) -> usize {
        1
    }

    fn read(reader: &mut Reader, _: Version) -> Result<Self, CodecError> {
        reader.array().map(|[byte]| byte != 0)
    }

    fn write(&self, writer: &mut Writer, _: Version) -> Result<(), CodecError> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }
}

/// Nil stands for none.
impl Wire for Uuid {
    fn min_bytes(_: Version) -> usize {
        16
    }

    fn read(reader: &mut Reader, _: Version) -> Result<Self, CodecError> {
        reader.array().map(Self::from_bytes)
    }

    fn write(&self, writer: &mut Writer, _: Version) -> Result<(), CodecError> {
        writer.put(self.as_bytes());
        Ok(())
    }
}

/// A code that isn't known reads as [`ErrorCode::UnknownServerError`], as in Kafka's own clients.
impl Wire for ErrorCode {
    fn min_bytes(_: Version) -> usize {
        2
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Self, CodecError> {
        i16::read(reader, version).map(Self::from_code)
    }

    fn write(&self, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        self.code().write(writer, version)
    }
}

/// A type with a length or count in front, which can also say null.
pub trait Nullable: Sized {
    fn min_bytes(version: Version) -> usize;
    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError>;
    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError>;
}

impl<T: Nullable> Wire for Option<T> {
    fn min_bytes(version: Version) -> usize {
        T::min_bytes(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Self, CodecError> {
        T::read(reader, version)
    }

    fn write(&self, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        T::write(self.as_ref(), writer, version)
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

/// [`Wire`] of the type itself, of which null is no value.
macro_rules! not_null {
    ([$($generics:tt)*] $name:ty) => {
        impl $($generics)* Wire for $name {
            fn min_bytes(version: Version) -> usize {
                <Self as Nullable>::min_bytes(version)
            }

            fn read(reader: &mut Reader, version: Version) -> Result<Self, CodecError> {
                <Self as Nullable>::read(reader, version)?.ok_or(CodecError::Null)
            }

            fn write(&self, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
                <Self as Nullable>::write(Some(self), writer, version)
            }
        }
    };
}

not_null!([] Str);
not_null!([] Bytes);
not_null!([<T: Wire>] Vec<T>);

impl Nullable for Str {
    fn min_bytes(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError> {
        let Some(length) = reader.text_length(version)? else {
            return Ok(None);
        };
        Self::from_utf8(reader.take_frozen(length)?).map(Some)
    }

    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        writer.text_length(value.map(|text| text.len()), version)?;
        writer.put(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

fn min_count_bytes(version: Version) -> usize {
    if version.flexible { 1 } else { 4 }
}

/// Small opaque bytes, copied on the way out.
impl Nullable for Bytes {
    fn min_bytes(version: Version) -> usize {
        min_count_bytes(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError> {
        let Some(length) = reader.bytes_length(version)? else {
            return Ok(None);
        };
        reader.take_frozen(length).map(Some)
    }

    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        writer.count(value.map(Bytes::len), version)?;
        writer.put(value.map_or(&[], |bytes| bytes));
        Ok(())
    }
}

/// Record bytes on their way in: writable in place.
impl Nullable for BytesMut {
    fn min_bytes(version: Version) -> usize {
        min_count_bytes(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError> {
        let Some(length) = reader.bytes_length(version)? else {
            return Ok(None);
        };
        reader.take(length).map(Some)
    }

    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        writer.count(value.map(BytesMut::len), version)?;
        writer.put(value.map_or(&[], |bytes| bytes));
        Ok(())
    }
}

/// Record bytes on their way out: chained.
impl Nullable for Records {
    fn min_bytes(version: Version) -> usize {
        min_count_bytes(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError> {
        let Some(length) = reader.bytes_length(version)? else {
            return Ok(None);
        };
        reader.take_frozen(length).map(|piece| Some(piece.into()))
    }

    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        writer.count(value.map(Records::len), version)?;
        value
            .into_iter()
            .flat_map(Records::pieces)
            .for_each(|piece| writer.splice(piece.clone()));
        Ok(())
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn min_bytes(version: Version) -> usize {
        min_count_bytes(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, CodecError> {
        let Some(count) = reader.count(version, T::min_bytes(version))? else {
            return Ok(None);
        };
        // An element may be larger here than on the wire: no more memory at first than the input itself has.
        let mut elements = Vec::with_capacity(count.min(reader.remaining() / size_of::<T>()));
        for _ in 0..count {
            elements.push(T::read(reader, version)?);
        }
        Ok(Some(elements))
    }

    fn write(value: Option<&Self>, writer: &mut Writer, version: Version) -> Result<(), CodecError> {
        writer.count(value.map(Vec::len), version)?;
        value
            .into_iter()
            .flatten()
            .try_for_each(|element| element.write(writer, version))
    }
}
