//! Reads a pickle as data: an interpreter that supports only the few opcodes and globals that saved tensors need,
//! and rejects all others by name. Nothing named in a file is ever executed.
//!
//! Values are in arenas and the stack holds indices, so memory is bounded by the pickle's length and nested values
//! do not use the call stack.

use std::collections::HashMap;

use super::values::{Global, Pickle, PickleError, Result, Storage, Value, View};

/// Tensors with more dimensions are rejected: their memory would no longer be bounded by the pickle's length.
const MAX_RANK: usize = 8;

/// Reads one pickle and advances `at` past it.
pub(super) fn read<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Pickle<'a>> {
    let mut machine = Machine {
        bytes,
        at: *at,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        out: Pickle {
            sequences: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            views: Vec::new(),
            result: Value::None,
        },
    };
    machine.run()?;
    *at = machine.at;
    Ok(machine.out)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Stack heights at marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    out: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<()> {
        loop {
            let at = self.at;
            let [code] = self.array()?;
            match code {
                // PROTO and FRAME are not needed.
                0x80 => drop(self.array::<1>()?),
                0x95 => drop(self.array::<8>()?),
                b'.' => {
                    self.out.result = self.pop()?;
                    return Ok(());
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                b'K' => {
                    let [n] = self.array()?;
                    self.stack.push(Value::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.array::<8>()?;
                    self.stack.push(Value::OtherNumber);
                }
                b'X' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.text(n as usize)?;
                }
                0x8c => {
                    let [n] = self.array()?;
                    self.text(n.into())?;
                }
                b'}' => {
                    self.out.dicts.push(Vec::new());
                    self.stack.push(Value::Dict(self.out.dicts.len() - 1));
                }
                b']' => self.sequence(Vec::new(), Value::List),
                b')' => self.sequence(Vec::new(), Value::Tuple),
                b't' => {
                    let items = self.items_since_mark()?;
                    self.sequence(items, Value::Tuple);
                }
                0x85..=0x87 => {
                    let n = usize::from(code - 0x84);
                    let height = self.room(n)?;
                    let items = self.stack.split_off(height);
                    self.sequence(items, Value::Tuple);
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.items_since_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let height = self.room(2)?;
                    let items = self.stack.split_off(height);
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.items_since_mark()?;
                    self.set_items(&items)?;
                }
                b'q' => {
                    let [n] = self.array()?;
                    self.memorise(n.into())?;
                }
                b'r' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.memorise(n)?;
                }
                0x94 => {
                    let n = u32::try_from(self.memo.len())
                        .map_err(|_| self.malformed("a memo that is too long"))?;
                    self.memorise(n)?;
                }
                b'h' => {
                    let [n] = self.array()?;
                    self.recall(n.into())?;
                }
                b'j' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.recall(n)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Global(Global::find(module, name)?));
                }
                0x93 => {
                    let height = self.room(2)?;
                    let [Value::Text(module), Value::Text(name)] = self.stack[height..] else {
                        return Err(self.malformed("a global without a name"));
                    };
                    self.stack.truncate(height);
                    self.stack.push(Value::Global(Global::find(module, name)?));
                }
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                // BUILD adds state (a state dict's `_metadata`) that does not concern the weights.
                b'b' => {
                    self.pop()?;
                    self.room(1)?;
                }
                code => return Err(PickleError::Opcode { code, at }),
            }
        }
    }

    fn malformed(&self, problem: &'static str) -> PickleError {
        PickleError::Malformed { problem, at: self.at }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).ok_or(PickleError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(PickleError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        // Longer than any module's name.
        let end = rest.iter().take(1024).position(|&b| b == b'\n').ok_or(PickleError::Truncated)?;
        let line =
            std::str::from_utf8(&rest[..end]).map_err(|_| self.malformed("a name that is not UTF-8"))?;
        self.at += end + 1;
        Ok(line)
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let bytes = self.take(n)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("a text that is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// An integer of up to 255 bytes, little-endian, in two's complement.
    fn long(&mut self) -> Result<()> {
        let [n] = self.array()?;
        let bytes = self.take(n.into())?;
        let value = if bytes.len() > 8 {
            Value::OtherNumber
        } else {
            let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        };
        self.stack.push(value);
        Ok(())
    }

    /// The stack's height without its top `n` values, none of which may be below a mark.
    fn room(&self, n: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(n).filter(|&height| height >= floor);
        height.ok_or_else(|| self.malformed("an empty stack"))
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        self.room(1)?;
        self.stack.pop().ok_or_else(|| self.malformed("an empty stack"))
    }

    fn items_since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn sequence(&mut self, items: Vec<Value<'a>>, kind: fn(usize) -> Value<'a>) {
        self.out.sequences.push(items);
        self.stack.push(kind(self.out.sequences.len() - 1));
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let height = self.room(1)?;
        let Value::List(list) = self.stack[height] else {
            return Err(self.malformed("an append to a value that is not a list"));
        };
        self.out.sequences[list].extend(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<()> {
        let height = self.room(1)?;
        let Value::Dict(dict) = self.stack[height] else {
            return Err(self.malformed("an item for a value that is not a dict"));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        self.out.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn memorise(&mut self, n: u32) -> Result<()> {
        let height = self.room(1)?;
        self.memo.insert(n, self.stack[height]);
        Ok(())
    }

    fn recall(&mut self, n: u32) -> Result<()> {
        let value = *self.memo.get(&n).ok_or_else(|| self.malformed("a memo that was never set"))?;
        self.stack.push(value);
        Ok(())
    }

    /// A persistent id: `("storage", class, key, device, n_elements)`, in old files with a sixth element for
    /// views.
    fn storage(&mut self) -> Result<()> {
        let wrong = "a persistent id that is not a storage";
        let Value::Tuple(id) = self.pop()? else { return Err(self.malformed(wrong)) };
        let (parts, view) = match self.out.sequences[id].as_slice() {
            [parts @ .., view] if parts.len() == 5 => (parts, *view),
            parts => (parts, Value::None),
        };
        let &[
            Value::Text("storage"),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            Value::Text(_device),
            Value::Int(n),
        ] = parts
        else {
            return Err(self.malformed(wrong));
        };
        if view != Value::None {
            return Err(self.malformed("a storage that is a view of another, as PyTorch before 0.4 saved it"));
        }
        let n_elements = self.size(n)?;
        self.out.storages.push(Storage { dtype, key, n_elements });
        self.stack.push(Value::Storage(self.out.storages.len() - 1));
        Ok(())
    }

    fn size(&self, n: i64) -> Result<usize> {
        usize::try_from(n).map_err(|_| self.malformed("a negative size"))
    }

    /// Calls a global with a tuple of arguments.
    fn reduce(&mut self) -> Result<()> {
        let height = self.room(2)?;
        let [Value::Global(global), Value::Tuple(arguments)] = self.stack[height..] else {
            return Err(self.malformed("a call of a value that is not callable"));
        };
        self.stack.truncate(height);
        let value = match (global, self.out.sequences[arguments].as_slice()) {
            (Global::OrderedDict, []) => {
                self.out.dicts.push(Vec::new());
                Value::Dict(self.out.dicts.len() - 1)
            }
            // (data, requires_grad, backward_hooks)
            (Global::RebuildParameter, &[Value::Tensor(tensor), _, _]) => Value::Tensor(tensor),
            (
                Global::RebuildTensor,
                &[Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides)],
            )
            | (
                Global::RebuildTensorV2,
                // requires_grad, backward_hooks and, in new files, metadata
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    _,
                    _,
                    ..,
                ],
            ) => self.tensor(storage, offset, shape, strides)?,
            _ => return Err(self.malformed("a call with the wrong arguments")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn tensor(&mut self, storage: usize, offset: i64, shape: usize, strides: usize) -> Result<Value<'a>> {
        let sizes = |tuple: usize| -> Result<Vec<usize>> {
            let items = &self.out.sequences[tuple];
            if items.len() > MAX_RANK {
                return Err(self.malformed("a tensor of more than 8 dimensions"));
            }
            let size = |item: &Value| match *item {
                Value::Int(n) => self.size(n),
                _ => Err(self.malformed("a size that is not an integer")),
            };
            items.iter().map(size).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(self.malformed("a shape and strides of different lengths"));
        }
        let view = View { storage: self.out.storages[storage], offset: self.size(offset)?, shape, strides };
        self.out.views.push(view);
        Ok(Value::Tensor(self.out.views.len() - 1))
    }
}
