//! A text from a variable or a flag, read as what its key's type asks for.

use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use toml::{Table, Value};

use super::section::Wrong;

/// What a variable or a flag says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// The variable's name, or the flag with its key.
    pub(super) at: String,
    /// Its value.
    pub(super) text: String,
}

impl Said {
    /// The text as TOML would have it on the right of `=`.
    pub(super) fn as_toml(&self) -> Option<Value> {
        let mut table = format!("value = {}", self.text.trim()).parse::<Table>().ok()?;
        let value = table.remove("value")?;
        table.is_empty().then_some(value)
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong::problem(format!("{:?} is not {what}", self.text))
    }

    fn number(&self, what: &str) -> Result<Value, Wrong> {
        let number = self.as_toml().filter(|value| value.is_integer() || value.is_float());
        number.ok_or_else(|| self.wrong(what))
    }

    fn list(self) -> Result<Vec<ListItem>, Wrong> {
        let text = self.text.trim();
        if text.starts_with('[') && text.ends_with(']') {
            return match self.as_toml() {
                Some(Value::Array(members)) => Ok(members.into_iter().map(ListItem::Toml).collect()),
                _ => Err(self.wrong("a list: write it as TOML does, or as words with commas between")),
            };
        }
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Ok(words.map(|word| ListItem::Word(Self { at: self.at.clone(), text: word.to_owned() })).collect())
    }
}

/// Numbers of all sizes are read alike: the type itself says whether there is room for one.
macro_rules! numbers {
    ($what:literal: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            Ok(self.number($what)?.$method(visitor)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Said {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.text.trim() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    numbers! {
        "a whole number":
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    numbers! { "a number": deserialize_f32 deserialize_f64 }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(self.text.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(Members(self.list()?.into_iter()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.as_toml() {
            Some(table @ Value::Table(_)) => Ok(table.deserialize_map(visitor)?),
            _ => Err(self.wrong("a table: write it as TOML does, as { key = value }")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

/// One of a list: a word between two commas, or what TOML has there.
enum ListItem {
    Word(Said),
    Toml(Value),
}

struct Members(std::vec::IntoIter<ListItem>);

impl<'de> SeqAccess<'de> for Members {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        match self.0.next() {
            None => Ok(None),
            Some(ListItem::Word(word)) => seed.deserialize(word).map(Some),
            Some(ListItem::Toml(value)) => Ok(Some(seed.deserialize(value)?)),
        }
    }
}
