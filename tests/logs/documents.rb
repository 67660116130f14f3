# frozen_string_literal: true

# The chart's own maker of documents, for the model of the pipeline: [tag, record] a line in, a document a line out.
# A message comes as one character a byte, so that bytes which are no text survive the way.
require "json"
require_relative "../../helm/observability/files/fluentd/csecbridge_document"

maker = CSecBridgeDocument.new(environment: ARGV.fetch(0), node: ARGV.fetch(1))
$stdin.each_line do |line|
  tag, record = JSON.parse(line)
  %w[message unmatched_line].each do |name|
    record[name] = record[name].encode(Encoding::ISO_8859_1).b if record[name]
  end
  puts JSON.generate(maker.of(tag, record))
end
