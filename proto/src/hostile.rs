//! For the tests of both ends: messages as bytes in the test's hand, which need not be messages.

use std::marker::PhantomData;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost::bytes::BufMut;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A field that no version of the protocol has yet: its number, and what it holds.
pub const FROM_THE_FUTURE: [u8; 8] = [0xaa, 0x38, 5, b'c', b'l', b'o', b'u', b'd'];

/// A message cut short or spoiled, a kind from the future, or noise.
pub fn spoiled(whole: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoiled = (whole, any::<Index>(), prop::option::of(any::<u8>())).prop_map(|(mut bytes, at, byte)| {
        match byte {
            Some(byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            _ => bytes.truncate(at.index(bytes.len() + 1)),
        }
        bytes
    });
    prop_oneof![
        6 => spoiled,
        1 => Just(FROM_THE_FUTURE.to_vec()),
        1 => vec(any::<u8>(), 0..64)
    ]
}

/// Bytes out as they are, messages in.
#[derive(Debug)]
pub struct Raw<M>(PhantomData<fn() -> M>);

impl<M> Default for Raw<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + 'static> Codec for Raw<M> {
    type Encode = Vec<u8>;
    type Decode = M;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<M> Encoder for Raw<M> {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}

impl<M: Message + Default> Decoder for Raw<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        M::decode(from).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
