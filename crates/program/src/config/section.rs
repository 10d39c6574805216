//! A table of the file with what overrides its keys, read as the type asks for it: the type's fields are the keys.

use std::fmt::{self, Display};

use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use toml::{Table, Value};

use super::ConfigError;
use super::text::Said;

/// What a variable or a flag puts in the place of a value.
#[derive(Clone, Debug)]
pub(super) struct Override {
    /// The rest of the key's name, from the table on that it was handed down to.
    rest: String,
    /// What stands between a table's name and its keys'.
    between: char,
    said: Said,
}

impl Override {
    /// `key` is the name in small letters, without what all of them begin with.
    pub(super) fn variable(key: String, said: Said) -> Self {
        Self { rest: key, between: '_', said }
    }

    /// `key` is `section.key`.
    pub(super) fn flag(key: String, said: Said) -> Self {
        Self { rest: key, between: '.', said }
    }

    fn is_variable(&self) -> bool {
        self.between == '_'
    }

    /// The rest below the table `name`.
    fn below(&self, name: &str) -> Option<Self> {
        let rest = self.rest.strip_prefix(name)?.strip_prefix(self.between)?;
        Some(Self { rest: rest.to_owned(), ..self.clone() })
    }
}

/// A table with what overrides its keys.
#[derive(Debug)]
pub(super) struct Overlaid {
    /// Its name with those of the tables around it; empty for the whole file.
    path: String,
    table: Table,
    overrides: Vec<Override>,
}

/// A key of a table, with all that is said of it.
#[derive(Debug)]
struct TableKey {
    path: String,
    file: Option<Value>,
    said: Option<Said>,
    /// What is said of keys below it, if it is a table.
    below: Vec<Override>,
    /// The keys beside it.
    beside: &'static [&'static str],
}

impl Overlaid {
    /// All of a file.
    pub(super) fn whole(table: Table, overrides: Vec<Override>) -> Self {
        Self { path: String::new(), table, overrides }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Its keys, each with what is said of it, for a type with these `fields`.
    fn keys(mut self, fields: &'static [&'static str]) -> Result<Vec<TableKey>, Wrong> {
        let overrides = std::mem::take(&mut self.overrides);
        if let Some(unknown) = self.table.keys().find(|key| !fields.contains(&key.as_str())) {
            return Err(Wrong::unknown(&self.path, unknown, fields));
        }
        let mut keys: Vec<TableKey> = fields
            .iter()
            .map(|field| TableKey {
                path: self.path_of(field),
                file: self.table.remove(*field),
                said: None,
                below: Vec::new(),
                beside: fields,
            })
            .collect();
        let is_whole = self.path.is_empty();
        for given in overrides {
            let exact = fields.iter().position(|field| !is_whole && given.rest == **field);
            // The longest: one name may begin with another.
            let longest = || {
                let places = fields.iter().enumerate().filter(|(_, field)| given.below(field).is_some());
                places.max_by_key(|(_, field)| field.len()).map(|(place, _)| place)
            };
            match (exact, longest()) {
                (Some(place), _) => keys[place].said = Some(given.said),
                (None, Some(place)) => keys[place].below.extend(given.below(fields[place])),
                // Of another program, or of a container platform that names services into the environment.
                (None, None) if is_whole && given.is_variable() => {}
                (None, None) => {
                    return Err(Wrong::unknown(&self.path, &given.rest, fields).from(&given.said));
                }
            }
        }
        keys.retain(|key| key.file.is_some() || key.said.is_some() || !key.below.is_empty());
        Ok(keys)
    }
}

impl<'de> Deserializer<'de> for Overlaid {
    type Error = Wrong;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let path = self.path.clone();
        let keys = self.keys(fields)?;
        let read = visitor.visit_map(Keys { keys: keys.into_iter(), next: None });
        read.map_err(|wrong| if path.is_empty() { wrong } else { wrong.in_table(&path) })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        Ok(Value::Table(self.table).deserialize_any(visitor)?)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Keys {
    keys: std::vec::IntoIter<TableKey>,
    next: Option<TableKey>,
}

impl<'de> MapAccess<'de> for Keys {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.next = self.keys.next();
        let Some(key) = &self.next else { return Ok(None) };
        let name = key.path.rsplit_once('.').map_or(key.path.as_str(), |(_, name)| name);
        seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some(key) = self.next.take() else { return Err(Wrong::problem("a value without a key")) };
        let (path, said) = (key.path.clone(), key.said.clone());
        seed.deserialize(key).map_err(|wrong| {
            let wrong = wrong.of_key(&path);
            said.map_or(wrong.clone(), |said| wrong.from(&said))
        })
    }
}

impl TableKey {
    /// What it is set to, when it is no table with keys of its own.
    fn value(self) -> Result<Set, Wrong> {
        if let Some(given) = self.below.into_iter().next() {
            let (table, key) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
            let key = format!("{key}{}{}", given.between, given.rest);
            return Err(Wrong::unknown(table, &key, self.beside).from(&given.said));
        }
        match (self.said, self.file) {
            (Some(said), _) => Ok(Set::Said(said)),
            (None, Some(value)) => Ok(Set::File(value)),
            (None, None) => Err(Wrong::problem("has no value")),
        }
    }

    /// The table that it is.
    fn table(self) -> Result<Overlaid, Wrong> {
        let value = match &self.said {
            Some(said) => Some(said.as_toml().ok_or_else(|| not_a_table(&self.path))?),
            None => self.file,
        };
        let table = match value {
            Some(Value::Table(table)) => table,
            None => Table::new(),
            Some(_) => return Err(not_a_table(&self.path)),
        };
        Ok(Overlaid { path: self.path, table, overrides: self.below })
    }
}

fn not_a_table(path: &str) -> Wrong {
    Wrong::problem(format!("must be a section: write [{path}] and its keys below"))
}

/// What a key is set to.
enum Set {
    File(Value),
    Said(Said),
}

macro_rules! as_it_is_set {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Wrong> {
            match self.value()? {
                Set::File(value) => Ok(value.$method($($argument,)* visitor)?),
                Set::Said(said) => said.$method($($argument,)* visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for TableKey {
    type Error = Wrong;

    as_it_is_set! {
        deserialize_any() deserialize_bool() deserialize_char() deserialize_str() deserialize_string()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64()
        deserialize_bytes() deserialize_byte_buf() deserialize_unit() deserialize_seq()
        deserialize_identifier() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_tuple(length: usize) deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

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

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.table()?.deserialize_struct(name, fields, visitor)
    }

    /// A table whose keys are names of the operator's own choice.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let Overlaid { mut table, overrides, .. } = self.table()?;
        for Override { rest, said, .. } in overrides {
            table.insert(rest, Value::String(said.text));
        }
        Ok(Value::Table(table).deserialize_map(visitor)?)
    }
}

/// Why something that was written cannot be read, and where it was written as far as that is known.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    /// The variable or the flag; without one it is the file.
    at: Option<String>,
    /// The key, or the table.
    of: Option<String>,
    problem: String,
}

impl Wrong {
    pub(super) fn problem(problem: impl Into<String>) -> Self {
        Self { at: None, of: None, problem: problem.into() }
    }

    fn unknown(table: &str, key: &str, known: &[&str]) -> Self {
        let known = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let problem = match table {
            "" => format!("unknown field `{key}`; the sections are {known}"),
            table => format!("unknown field `{key}` in [{table}]; its keys are {known}"),
        };
        // Where it should stand is part of the problem.
        Self { at: None, of: Some(String::new()), problem }
    }

    fn from(mut self, said: &Said) -> Self {
        self.at.get_or_insert_with(|| said.at.clone());
        self
    }

    fn of_key(mut self, path: &str) -> Self {
        self.of.get_or_insert_with(|| path.to_owned());
        self
    }

    fn in_table(self, path: &str) -> Self {
        self.of_key(&format!("[{path}]"))
    }

    /// With the name of the file, should it stand there.
    pub(super) fn told(self, file: &str) -> ConfigError {
        let at = self.at.unwrap_or_else(|| file.to_owned());
        let problem = match self.of.filter(|of| !of.is_empty()) {
            Some(of) => format!("{of}: {}", self.problem),
            None => self.problem,
        };
        ConfigError::Written { at, problem }
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: Display>(problem: T) -> Self {
        Self::problem(problem.to_string().trim_end().replace('\n', "; "))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::problem(format!("missing field `{field}`, which has no default"))
    }
}

impl From<toml::de::Error> for Wrong {
    fn from(error: toml::de::Error) -> Self {
        Self::problem(error.message().trim_end().replace('\n', "; "))
    }
}
