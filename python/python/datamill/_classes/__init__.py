"""OpenMSIStream's classes on datamill's engine.

The names, arguments, hooks and answers are OpenMSIStream's, so that programs written for it run on datamill. Only what a
program of a user touches is here: consumers, producers, offsets and retries are the engine's, in Rust.

==================  =====================================================================================
module              what is in it
==================  =====================================================================================
`defaults`          what differs between programs written for datamill and unchanged ones
`logger`            `OpenMSILogger`, and `LogOwner` for everything that has one
`arguments`         `HasArguments`, `HasArgumentParser`, `Runnable`
`parser`            `OpenMSIArgumentParser`, `OpenMSIStreamArgumentParser`
`run_const`         constants and the search for configuration files
`data_file`         `DataFile`, `DownloadDataFile` and its kinds
`messages`          `Producible`, `ReproducerMessage`, `MetadataJSONMessage`
`words`             keyword arguments to words of the engine's command line
`constructor`       what is wrong with a constructor of the user's
`controlled`        what all running programs share: `alive`, `shutdown()`, `close()`, the console
`console`           `c` and `q` on stdin
`stream`            the base of all programs that run a function on whole files
`processor`         `DataFileStreamProcessor`
`reproducer`        `DataFileStreamReproducer`, `MetadataJSONReproducer`
`upload`            `UploadDataFile`, `DataFileUploadDirectory`
`delivery`          `DataFileDownloadDirectory`, `S3TransferStreamProcessor`
`girder`            `GirderUploadStreamProcessor`
`parser_types`      types of arguments
`threads`           `ExceptionTrackingThread`
==================  =====================================================================================
"""
