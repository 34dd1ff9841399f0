//! How do tokens become a syntax tree? A plain recursive descent over what NVRTC and NVCC print.

use super::ast::{Function, Guard, Init, Operand, Stmt, StmtKind, Text, Ty, Var, VarSpace};
use super::lexer::{Located, Token, tokenize};
use crate::error::ParseError;

/// Nesting of vector operands and lists that is still sensible.
const MAX_OPERAND_DEPTH: u32 = 4;

/// Parses a whole PTX text.
pub(crate) fn parse(text: &str) -> Result<Text, ParseError> {
    let tokens = tokenize(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    parser.text()
}

struct Parser<'t, 'a> {
    tokens: &'t [Located<'a>],
    at: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'_, 'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|t| t.token)
    }

    fn peek_at(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|t| t.token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    fn expected<T>(&self, what: &'static str) -> Parsed<T> {
        let found = match self.peek() {
            None => "the end of the text".to_owned(),
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Punct(byte)) => format!("`{}`", byte as char),
            Some(token) => format!("{token:?}"),
        };
        Err(ParseError::Syntax { line: self.line(), expected: what, found })
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(Token::Punct(byte));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Parsed<()> {
        if self.accept(byte) { Ok(()) } else { self.expected(what) }
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Token::Word(word));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, what: &'static str) -> Parsed<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.expected(what),
        }
    }

    fn int(&mut self, what: &'static str) -> Parsed<u64> {
        match self.peek() {
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.expected(what),
        }
    }

    fn small(&mut self, what: &'static str) -> Parsed<u32> {
        let line = self.line();
        let value = self.int(what)?;
        u32::try_from(value).map_err(|_| ParseError::Syntax { line, expected: what, found: value.to_string() })
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
            self.at += 1;
        }
    }

    fn text(&mut self) -> Parsed<Text> {
        let mut text = Text::default();
        let mut saw_version = false;
        while let Some(token) = self.peek() {
            let Token::Word(word) = token else { return self.expected("a directive") };
            match word {
                ".version" | ".target" | ".address_size" => {
                    saw_version |= word == ".version";
                    if let (".target", Some(Token::Word(target))) = (word, self.peek_at(1)) {
                        text.target = target.to_owned();
                    }
                    self.skip_line();
                }
                ".file" => self.file(&mut text)?,
                ".section" => self.section()?,
                ".pragma" => {
                    self.at += 1;
                    self.until_semicolon()?;
                }
                ".visible" | ".weak" | ".common" => self.at += 1,
                ".extern" => {
                    self.at += 1;
                }
                ".entry" | ".func" => {
                    let function = self.function()?;
                    text.functions.push(function);
                }
                ".global" | ".const" | ".shared" => text.vars.extend(self.vars()?),
                ".alias" => self.until_semicolon()?,
                _ => return self.expected("a directive"),
            }
        }
        if !saw_version {
            return Err(ParseError::Syntax { line: 1, expected: "`.version`", found: "none in the whole text".into() });
        }
        Ok(text)
    }

    fn until_semicolon(&mut self) -> Parsed<()> {
        while !self.accept(b';') {
            if self.peek().is_none() {
                return self.expected("`;`");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn file(&mut self, text: &mut Text) -> Parsed<()> {
        self.at += 1;
        let index = self.small("a file number")?;
        match self.peek() {
            Some(Token::Text(name)) => {
                text.files.insert(index, name.to_owned());
                self.skip_line();
                Ok(())
            }
            _ => self.expected("a quoted file name"),
        }
    }

    /// Debug sections carry nothing the machine needs.
    fn section(&mut self) -> Parsed<()> {
        self.at += 1;
        while self.peek() != Some(Token::Punct(b'{')) {
            if self.peek().is_none() {
                return self.expected("`{` of a section");
            }
            self.at += 1;
        }
        while !self.accept(b'}') {
            if self.peek().is_none() {
                return self.expected("`}` of a section");
            }
            self.at += 1;
        }
        Ok(())
    }

    fn function(&mut self) -> Parsed<Function> {
        let line = self.line();
        let is_entry = self.word("`.entry` or `.func`")? == ".entry";
        self.accept_word(".noreturn");
        let returns = if self.accept(b'(') { self.params()? } else { Vec::new() };
        let name = self.word("a function name")?.to_owned();
        let params = if self.accept(b'(') { self.params()? } else { Vec::new() };
        let (mut reqntid, mut maxntid, mut reqnctapercluster) = (None, None, None);
        loop {
            match self.peek() {
                Some(Token::Word(".noreturn" | ".noinline")) => self.at += 1,
                Some(Token::Word(".reqntid")) => reqntid = Some(self.three()?),
                Some(Token::Word(".maxntid")) => maxntid = Some(self.three()?),
                Some(Token::Word(".reqnctapercluster")) => reqnctapercluster = Some(self.three()?),
                Some(Token::Word(
                    ".minnctapersm" | ".maxnctapersm" | ".maxnreg" | ".maxclusterrank" | ".local_maxnreg",
                )) => {
                    self.three()?;
                }
                Some(Token::Word(".explicitcluster" | ".blocksareclusters")) => self.at += 1,
                Some(Token::Word(".pragma")) => self.until_semicolon()?,
                _ => break,
            }
        }
        let body = if self.accept(b';') { None } else { Some(self.body()?) };
        Ok(Function { line, name, is_entry, returns, params, reqntid, maxntid, reqnctapercluster, body })
    }

    fn three(&mut self) -> Parsed<[u32; 3]> {
        self.at += 1;
        let mut numbers = [1; 3];
        numbers[0] = self.small("a number")?;
        for number in &mut numbers[1..] {
            if !self.accept(b',') {
                break;
            }
            *number = self.small("a number")?;
        }
        Ok(numbers)
    }

    fn params(&mut self) -> Parsed<Vec<Var>> {
        let mut params = Vec::new();
        if self.accept(b')') {
            return Ok(params);
        }
        loop {
            let line = self.line();
            match self.word("`.param`")? {
                ".param" => {}
                ".reg" => {
                    return Err(ParseError::Unsupported { line, text: "register parameters of a function".into() });
                }
                _ => {
                    self.at -= 1;
                    return self.expected("`.param`");
                }
            }
            params.push(self.var(VarSpace::Param, line)?);
            if self.accept(b')') {
                return Ok(params);
            }
            self.expect(b',', "`,` or `)` after a parameter")?;
        }
    }

    /// `.shared .align 4 .b8 name[128] = {..};` possibly with several names.
    fn vars(&mut self) -> Parsed<Vec<Var>> {
        let line = self.line();
        let space = match self.word("a state space")? {
            ".global" => VarSpace::Global,
            ".const" => VarSpace::Const,
            ".shared" => VarSpace::Shared,
            ".local" => VarSpace::Local,
            ".param" => VarSpace::Param,
            _ => {
                self.at -= 1;
                return self.expected("a state space");
            }
        };
        let first = self.var(space, line)?;
        let (ty, align) = (first.ty, first.align);
        let mut vars = vec![first];
        while self.accept(b',') {
            vars.push(self.declarator(space, line, (ty, align, 1))?);
        }
        self.expect(b';', "`;` after a declaration")?;
        Ok(vars)
    }

    fn var(&mut self, space: VarSpace, line: u32) -> Parsed<Var> {
        let (mut align, mut ty, mut lanes) = (None, None, 1);
        while let Some(Token::Word(word)) = self.peek() {
            let Some(word) = word.strip_prefix('.') else { break };
            self.at += 1;
            match word {
                "align" => align = Some(self.small("an alignment")?),
                "ptr" | "global" | "shared" | "const" | "local" | "attribute" | "managed"
                    if ty.is_some() || word != "attribute" => {}
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                _ => match Ty::from_suffix(word) {
                    Some(found) => ty = Some(found),
                    None => {
                        self.at -= 1;
                        return self.expected("a type");
                    }
                },
            }
        }
        let Some(ty) = ty else { return self.expected("a type") };
        let align = align.unwrap_or(ty.bytes() * lanes);
        if !align.is_power_of_two() || align > 4096 {
            return Err(ParseError::Syntax {
                line,
                expected: "a power of two up to 4096 as alignment",
                found: align.to_string(),
            });
        }
        self.declarator(space, line, (ty, align, lanes))
    }

    fn declarator(&mut self, space: VarSpace, line: u32, (ty, align, lanes): (Ty, u32, u32)) -> Parsed<Var> {
        let name = self.word("a variable name")?.to_owned();
        let mut count = u64::from(lanes);
        while self.accept(b'[') {
            if self.accept(b']') {
                count = 0;
                continue;
            }
            count = count.saturating_mul(self.int("an array size")?);
            self.expect(b']', "`]`")?;
        }
        let mut init = Vec::new();
        if self.accept(b'=') {
            self.initialiser(&mut init, 0)?;
        }
        if count == 0 && !init.is_empty() {
            count = init.len() as u64;
        }
        Ok(Var { line, space, align, ty, name, count, init })
    }

    fn initialiser(&mut self, into: &mut Vec<Init>, depth: u32) -> Parsed<()> {
        if depth < MAX_OPERAND_DEPTH && self.accept(b'{') {
            if self.accept(b'}') {
                return Ok(());
            }
            loop {
                self.initialiser(into, depth + 1)?;
                if self.accept(b'}') {
                    return Ok(());
                }
                self.expect(b',', "`,` or `}` in an initialiser")?;
            }
        }
        let generic = self.accept_word("generic");
        if generic {
            self.expect(b'(', "`(`")?;
        }
        let value = match self.operand(MAX_OPERAND_DEPTH)? {
            Operand::Int(bits) => Init::Bits(bits),
            Operand::F32(bits) => Init::Bits(u64::from(bits)),
            Operand::F64(bits) => Init::Bits(bits),
            Operand::Name(name) => Init::Symbol { name, offset: 0 },
            Operand::Offset(name, offset) => Init::Symbol { name, offset },
            _ => return self.expected("a constant"),
        };
        if generic {
            self.expect(b')', "`)`")?;
            if self.accept(b'+') {
                let more = self.int("an offset")? as i64;
                if let Init::Symbol { name, offset } = value {
                    into.push(Init::Symbol { name, offset: offset.wrapping_add(more) });
                    return Ok(());
                }
            }
        }
        into.push(value);
        Ok(())
    }

    fn body(&mut self) -> Parsed<Vec<Stmt>> {
        self.expect(b'{', "`{` of a function body")?;
        let mut depth = 1u32;
        let mut stmts = Vec::new();
        loop {
            let line = self.line();
            let mut push = |kind| stmts.push(Stmt { line, kind });
            match self.peek() {
                None => return self.expected("`}` of a function body"),
                Some(Token::Punct(b'{')) => {
                    self.at += 1;
                    depth += 1;
                    push(StmtKind::Open);
                }
                Some(Token::Punct(b'}')) => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(stmts);
                    }
                    push(StmtKind::Close);
                }
                Some(Token::Punct(b';')) => self.at += 1,
                Some(Token::Word(".loc")) => {
                    self.at += 1;
                    let file = self.small("a file number")?;
                    let source_line = self.small("a line number")?;
                    while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
                        self.at += 1;
                    }
                    push(StmtKind::Loc { file, line: source_line });
                }
                Some(Token::Word(".pragma")) => self.until_semicolon()?,
                Some(Token::Word(".reg")) => {
                    for kind in self.regs()? {
                        push(kind);
                    }
                }
                Some(Token::Word(".shared" | ".local" | ".param" | ".global" | ".const")) => {
                    for var in self.vars()? {
                        push(StmtKind::Var(var));
                    }
                }
                Some(Token::Word(name)) if self.peek_at(1) == Some(Token::Punct(b':')) => {
                    self.at += 2;
                    if self.accept_word(".branchtargets") {
                        push(StmtKind::Targets(name.to_owned(), self.targets()?));
                    } else if self.accept_word(".callprototype") {
                        // Every call says itself what it passes.
                        self.until_semicolon()?;
                    } else {
                        push(StmtKind::Label(name.to_owned()));
                    }
                }
                _ => push(self.instruction()?),
            }
        }
    }

    fn targets(&mut self) -> Parsed<Vec<String>> {
        let mut targets = vec![self.word("a label")?.to_owned()];
        while self.accept(b',') {
            targets.push(self.word("a label")?.to_owned());
        }
        self.expect(b';', "`;`")?;
        Ok(targets)
    }

    fn regs(&mut self) -> Parsed<Vec<StmtKind>> {
        self.at += 1;
        let word = self.word("a register type")?;
        let Some(ty) = word.strip_prefix('.').and_then(Ty::from_suffix) else {
            self.at -= 1;
            return self.expected("a register type");
        };
        let mut kinds = Vec::new();
        loop {
            let name = self.word("a register name")?.to_owned();
            let range = if self.accept(b'<') {
                let n = self.int("a register count")?;
                self.expect(b'>', "`>`")?;
                Some(n)
            } else {
                None
            };
            kinds.push(StmtKind::Reg { ty, name, range });
            if self.accept(b';') {
                return Ok(kinds);
            }
            self.expect(b',', "`,` or `;` after a register")?;
        }
    }

    fn instruction(&mut self) -> Parsed<StmtKind> {
        let guard = if self.accept(b'@') {
            let negated = self.accept(b'!');
            Some(Guard { name: self.word("a predicate")?.to_owned(), negated })
        } else {
            None
        };
        let opcode = self.word("an instruction")?.to_owned();
        if opcode.starts_with('.') || opcode.starts_with('%') || opcode.starts_with('$') {
            self.at -= 1;
            return self.expected("an instruction");
        }
        let mut operands = Vec::new();
        if !self.accept(b';') {
            loop {
                operands.push(self.operand(0)?);
                if self.accept(b';') {
                    break;
                }
                self.expect(b',', "`,` or `;` after an operand")?;
            }
        }
        Ok(StmtKind::Instr { guard, opcode, operands })
    }

    fn operand(&mut self, depth: u32) -> Parsed<Operand> {
        let first = self.simple_operand(depth)?;
        if self.accept(b'|') {
            let second = self.simple_operand(depth)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn sequence(&mut self, close: u8, depth: u32) -> Parsed<Vec<Operand>> {
        let mut items = Vec::new();
        if depth >= MAX_OPERAND_DEPTH {
            return self.expected("a shallower operand");
        }
        if self.accept(close) {
            return Ok(items);
        }
        loop {
            items.push(self.operand(depth + 1)?);
            if self.accept(close) {
                return Ok(items);
            }
            self.expect(b',', "`,` in an operand list")?;
        }
    }

    /// `+ 4`, `+ -4` or `- 4` behind a base.
    fn offset(&mut self) -> Parsed<i64> {
        if self.accept(b'+') {
            let negative = self.accept(b'-');
            let value = self.int("an offset")? as i64;
            return Ok(if negative { value.wrapping_neg() } else { value });
        }
        if self.accept(b'-') {
            return Ok((self.int("an offset")? as i64).wrapping_neg());
        }
        Ok(0)
    }

    fn simple_operand(&mut self, depth: u32) -> Parsed<Operand> {
        match self.peek() {
            Some(Token::Punct(b'{')) => {
                self.at += 1;
                Ok(Operand::Vector(self.sequence(b'}', depth)?))
            }
            Some(Token::Punct(b'(')) => {
                self.at += 1;
                Ok(Operand::List(self.sequence(b')', depth)?))
            }
            Some(Token::Punct(b'!')) => {
                self.at += 1;
                Ok(Operand::Not(Box::new(Operand::Name(self.word("a predicate")?.to_owned()))))
            }
            Some(Token::Punct(b'[')) => {
                self.at += 1;
                let base = match self.peek() {
                    Some(Token::Int(value)) => {
                        self.at += 1;
                        Operand::Int(value)
                    }
                    _ => Operand::Name(self.word("an address")?.to_owned()),
                };
                let offset = self.offset()?;
                let base = Operand::Memory(Box::new(base), offset);
                if self.accept(b',') {
                    let coordinates = match self.operand(depth + 1)? {
                        Operand::Vector(coordinates) => coordinates,
                        single => vec![single],
                    };
                    self.expect(b']', "`]`")?;
                    return Ok(Operand::Tensor(Box::new(base), coordinates));
                }
                self.expect(b']', "`]`")?;
                Ok(base)
            }
            Some(Token::Punct(b'-')) => {
                self.at += 1;
                match self.peek() {
                    Some(Token::F64(bits)) => {
                        self.at += 1;
                        Ok(Operand::F64((-f64::from_bits(bits)).to_bits()))
                    }
                    _ => Ok(Operand::Int(self.int("a number")?.wrapping_neg())),
                }
            }
            Some(Token::Int(value)) => {
                self.at += 1;
                Ok(Operand::Int(value))
            }
            Some(Token::F32(bits)) => {
                self.at += 1;
                Ok(Operand::F32(bits))
            }
            Some(Token::F64(bits)) => {
                self.at += 1;
                Ok(Operand::F64(bits))
            }
            Some(Token::Word(word)) => {
                self.at += 1;
                let name = word.to_owned();
                match self.peek() {
                    Some(Token::Punct(b'+')) => Ok(Operand::Offset(name, self.offset()?)),
                    _ => Ok(Operand::Name(name)),
                }
            }
            _ => self.expected("an operand"),
        }
    }
}
