//! A model's tokens among those of another, of whose vocabulary it may have a part.

use super::sequences::Sequences;
use crate::gguf::{Gguf, ValueType};
use crate::memory::text;
use crate::{Error, Result};
use std::collections::HashMap;

/// For each token of a model, the reference's token of the same text.
#[derive(Clone, Debug)]
pub struct TokenMap {
    /// `None` where both have the same tokens in the same places.
    ids: Option<Vec<u32>>,
}

impl TokenMap {
    /// Finds the tokens of `model` in `reference`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first that the reference lacks.
    pub fn new(model: &Gguf, reference: &Gguf) -> Result<Self> {
        let (own, others) = match (texts(model)?, texts(reference)?) {
            (Some(own), Some(others)) if own != others => (own, others),
            // Where there are no texts the places must do, as `check` makes sure.
            _ => return Ok(Self { ids: None }),
        };
        let places: HashMap<&[u8], u32> = others.into_iter().zip(0..).collect();
        let ids = own.iter().enumerate().map(|(id, text)| {
            places.get(text).copied().ok_or_else(|| {
                let text = text.escape_ascii();
                Error::Invalid(text!(
                    "token {id} '{text}' is not in the reference's vocabulary, of which the model's \
                     must be a part"
                ))
            })
        });
        Ok(Self { ids: Some(ids.collect::<Result<_>>()?) })
    }

    /// The reference's token for one of the model's.
    pub fn reference(&self, id: u32) -> u32 {
        self.ids.as_ref().map_or(id, |ids| ids.get(id as usize).copied().unwrap_or(u32::MAX))
    }

    /// Sequences of the reference's tokens in the model's; each ends before the first token that the
    /// model lacks, and is left out if less than two are left.
    pub fn translate(&self, sequences: &Sequences) -> Sequences {
        let Some(ids) = &self.ids else { return sequences.clone() };
        let own: HashMap<u32, u32> = ids.iter().copied().zip(0..).collect();
        sequences.translate(|id| own.get(&id).copied())
    }

    /// Appends the model's part of a row of the reference's.
    pub(super) fn restrict(&self, row: &[f32], out: &mut Vec<f32>) {
        match &self.ids {
            None => out.extend(row),
            Some(ids) => out.extend(ids.iter().map(|id| row[*id as usize])),
        }
    }

    /// Whether rows of logits are as long as the vocabularies are.
    pub(super) fn check(&self, model: usize, reference: usize) -> Result<()> {
        let sound = match &self.ids {
            None => model == reference,
            Some(ids) => ids.len() == model && ids.iter().all(|id| (*id as usize) < reference),
        };
        match sound {
            true => Ok(()),
            false => Err(Error::Invalid(text!(
                "logits of {model} and {reference} tokens cannot be compared: the vocabularies' texts do \
                 not say which is which"
            ))),
        }
    }
}

fn texts(gguf: &Gguf) -> Result<Option<Vec<&[u8]>>> {
    let array = gguf.array("tokenizer.ggml.tokens", ValueType::String)?;
    Ok(array.map(|array| array.strings().collect()))
}
