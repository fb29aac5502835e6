//! Conversion between rows of the retired events and a Parquet file. One row group per file,
//! because a part is small enough.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::ColumnReaderImpl;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::domain::event::Envelope;
use crate::log::object::{CommitObject, ObjectHash};
use crate::proof::digest::RollingDigest;

const SCHEMA: &str = "
message oms_event {
    REQUIRED INT32 partition;
    REQUIRED INT64 commit_offset;
    REQUIRED INT32 idx;
    REQUIRED BYTE_ARRAY stream_type (STRING);
    REQUIRED BYTE_ARRAY stream_id (STRING);
    REQUIRED INT64 version;
    REQUIRED FIXED_LEN_BYTE_ARRAY (16) event_id (UUID);
    REQUIRED BYTE_ARRAY event_type (STRING);
    REQUIRED FIXED_LEN_BYTE_ARRAY (16) command_id (UUID);
    REQUIRED INT64 recorded (TIMESTAMP(MICROS,true));
    REQUIRED BYTE_ARRAY envelope (STRING);
}";

/// Rows, as one vector per column. `recorded` is microseconds since 1970, UTC.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rows {
    partition: Vec<i32>,
    commit_offset: Vec<i64>,
    idx: Vec<i32>,
    stream_type: Vec<ByteArray>,
    stream_id: Vec<ByteArray>,
    version: Vec<i64>,
    event_id: Vec<FixedLenByteArray>,
    event_type: Vec<ByteArray>,
    command_id: Vec<FixedLenByteArray>,
    recorded: Vec<i64>,
    envelope: Vec<ByteArray>,
    envelope_bytes: usize,
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
}

fn id(id: uuid::Uuid) -> FixedLenByteArray {
    ByteArray::from(id.as_bytes().to_vec()).into()
}

impl Rows {
    /// Adds the events of a commit.
    pub fn add(&mut self, object: &CommitObject) -> Result<(), String> {
        for i in 0..object.event_count() {
            let line = object.line(i);
            let event = Envelope::parse(&line).map_err(|e| format!("event {i}: {e}"))?;
            self.partition.push(i32::from(object.header.partition.0));
            self.commit_offset.push(object.header.offset as i64);
            self.idx.push(i as i32);
            self.stream_type.push(text(&event.stream_type));
            self.stream_id.push(text(&event.stream_id));
            self.version.push(event.version.0 as i64);
            self.event_id.push(id(event.id.0));
            self.event_type.push(text(&event.event_type));
            self.command_id.push(id(event.command_id.0));
            self.recorded.push(event.time.as_microsecond());
            self.envelope_bytes += line.len();
            self.envelope.push(ByteArray::from(line.clone()));
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.partition.len()
    }

    pub fn is_empty(&self) -> bool {
        self.partition.is_empty()
    }

    /// Bytes of their envelopes.
    pub fn envelope_bytes(&self) -> usize {
        self.envelope_bytes
    }

    /// The digest described at [`super::manifest::Part::digest`].
    pub fn digest(&self) -> ObjectHash {
        let mut digest = RollingDigest::default();
        let places = self
            .partition
            .iter()
            .zip(&self.commit_offset)
            .zip(&self.idx);
        for (((partition, offset), idx), envelope) in places.zip(&self.envelope) {
            let mut row = format!("{partition}/{offset}/{idx}\n").into_bytes();
            row.extend_from_slice(envelope.data());
            digest.take(&row);
        }
        digest.hash()
    }
}

/// Writes a file. The same rows always give the same bytes.
pub fn write(rows: &Rows) -> Result<Bytes, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("oms ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    put::<Int32Type>(&mut group, &rows.partition)?;
    put::<Int64Type>(&mut group, &rows.commit_offset)?;
    put::<Int32Type>(&mut group, &rows.idx)?;
    put::<ByteArrayType>(&mut group, &rows.stream_type)?;
    put::<ByteArrayType>(&mut group, &rows.stream_id)?;
    put::<Int64Type>(&mut group, &rows.version)?;
    put::<FixedLenByteArrayType>(&mut group, &rows.event_id)?;
    put::<ByteArrayType>(&mut group, &rows.event_type)?;
    put::<FixedLenByteArrayType>(&mut group, &rows.command_id)?;
    put::<Int64Type>(&mut group, &rows.recorded)?;
    put::<ByteArrayType>(&mut group, &rows.envelope)?;
    group.close()?;
    file.into_inner().map(Bytes::from)
}

fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General(
            "the schema has too few columns".into(),
        ));
    };
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// Reads a file back.
pub fn read(file: Bytes) -> Result<Rows, String> {
    let mut rows = read_columns(file).map_err(|e| e.to_string())?;
    let lengths = [
        rows.commit_offset.len(),
        rows.idx.len(),
        rows.stream_type.len(),
        rows.stream_id.len(),
        rows.version.len(),
        rows.event_id.len(),
        rows.event_type.len(),
        rows.command_id.len(),
        rows.recorded.len(),
        rows.envelope.len(),
    ];
    if lengths.iter().any(|length| *length != rows.len()) {
        return Err("its columns have different lengths".into());
    }
    rows.envelope_bytes = rows.envelope.iter().map(ByteArray::len).sum();
    Ok(rows)
}

fn read_columns(file: Bytes) -> Result<Rows, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let mut rows = Rows::default();
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i)?;
        let group = &*group;
        take::<Int32Type>(group, 0, &mut rows.partition)?;
        take::<Int64Type>(group, 1, &mut rows.commit_offset)?;
        take::<Int32Type>(group, 2, &mut rows.idx)?;
        take::<ByteArrayType>(group, 3, &mut rows.stream_type)?;
        take::<ByteArrayType>(group, 4, &mut rows.stream_id)?;
        take::<Int64Type>(group, 5, &mut rows.version)?;
        take::<FixedLenByteArrayType>(group, 6, &mut rows.event_id)?;
        take::<ByteArrayType>(group, 7, &mut rows.event_type)?;
        take::<FixedLenByteArrayType>(group, 8, &mut rows.command_id)?;
        take::<Int64Type>(group, 9, &mut rows.recorded)?;
        take::<ByteArrayType>(group, 10, &mut rows.envelope)?;
    }
    Ok(rows)
}

fn take<T: DataType>(
    group: &dyn RowGroupReader,
    column: usize,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(group.get_column_reader(column)?);
    loop {
        let (records, _, _) = reader.read_records(usize::MAX, None, None, values)?;
        if records == 0 {
            return Ok(());
        }
    }
}

// Test data of the core's own tests, which the core does not export.
#[cfg(test)]
#[path = "../../../crates/oms-core/src/proof/testing.rs"]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    use super::testing::chain;

    #[test]
    fn a_file_reads_back_and_is_the_same_every_time() {
        let mut rows = Rows::default();
        for object in chain(0, 20, 3) {
            rows.add(&object).unwrap();
        }
        assert!(rows.len() > 20);
        let file = write(&rows).unwrap();
        assert_eq!(write(&rows).unwrap(), file);
        let again = read(file.clone()).unwrap();
        assert_eq!(again, rows);
        assert_eq!(again.digest(), rows.digest());
        let cut = file.slice(..file.len() / 2);
        assert!(read(cut).is_err());
    }
}
