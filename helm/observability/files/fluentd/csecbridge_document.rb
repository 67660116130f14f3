# frozen_string_literal: true

require "digest"
require "json"

# Makes the document of one line. Knows nothing of Fluentd, so that it can be tried without.
class CSecBridgeDocument
  # A longer text loses its end: one document must fit into one chunk many times.
  LONGEST_TEXT = 131_072
  COMPONENT = "app.kubernetes.io/component"
  TIME = /\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\z/
  # Half a pair of surrogates, or two backslashes, which are looked at only to be passed over.
  HALF = /\\\\|\\u[dD][89abAB]\h\h(?!\\u[dD][c-fC-F]\h\h)|(?<!\\u[dD][89abAB]\h\h)\\u[dD][c-fC-F]\h\h/
  # What every line of a service says, and what stands under its own name at the top of the document.
  SAID = %w[timestamp level service logger message].freeze
  IDS = %w[correlation_id request_id tenant_id].freeze

  def initialize(environment:, node:)
    @environment = environment
    @node = node
  end

  # The document of a record; +tag+ names the file that the line stood in.
  def of(tag, record)
    raw, read_at, stream = [record["message"] || record["unmatched_line"], *record.values_at("time", "iostream")]
                           .map { |text| text && readable(text) }
    pod = record["kubernetes"] || {}
    said = object_in(raw)
    document = deep_merge(
      about(pod, read_at, stream),
      ours?(said) ? from_service(said) : from_anybody(raw, said, pod)
    )
    document["event"]["id"] = Digest::SHA256.hexdigest([tag, read_at, stream, raw].join("\0"))
    document
  end

  private

  # Bytes that are no UTF-8 would make Elasticsearch refuse the document.
  def readable(text)
    text.dup.force_encoding(Encoding::UTF_8).scrub("\uFFFD")
  end

  # The JSON object that a line is; nil for text, for numbers and lists, and for half an object.
  def object_in(raw)
    return nil unless raw.start_with?("{")

    storable(JSON.parse(raw.gsub(HALF) { |found| found == "\\\\" ? found : "\\ufffd" }))
  rescue JSON::ParserError
    nil
  end

  # JSON can say what the buffer and Elasticsearch cannot hold: half a character, and numbers without end.
  def storable(value)
    case value
    when Hash then value.to_h { |name, inner| [readable(name), storable(inner)] }
    when Array then value.map { |inner| storable(inner) }
    when String then readable(value)
    when Integer then value.bit_length < 64 ? value : value.to_s
    when Float then value.finite? ? value : value.to_s
    else value
    end
  end

  def ours?(said)
    said && said.values_at(*SAID).all?(String) && said["timestamp"].match?(TIME) && said["context"].is_a?(Hash)
  end

  def from_service(said)
    exception = said["context"]["exception"]
    {
      "@timestamp" => said["timestamp"],
      "message" => cut(said["message"]),
      "log" => { "level" => said["level"].downcase, "logger" => said["logger"] },
      "service" => { "name" => said["service"], "version" => said["version"] }.compact,
      "trace" => said["trace_id"] && { "id" => said["trace_id"] },
      "error" => exception && { "stack_trace" => exception },
      "context" => said["context"].except("exception"),
      **said.slice(*IDS)
    }.compact
  end

  # Text as it is; somebody else's JSON also in parts, below one name where it disturbs nothing.
  def from_anybody(raw, said, pod)
    {
      "message" => cut(raw),
      "service" => { "name" => component(pod) },
      "context" => said && { "json" => said }
    }.compact
  end

  # What is known of every line, whatever it says.
  def about(pod, read_at, stream)
    dataset = "csecbridge.#{component(pod).downcase.gsub(/[^a-z0-9]+/, "_")[0, 64]}"
    {
      # A data stream refuses what has no time.
      "@timestamp" => read_at || Time.now.utc.strftime("%Y-%m-%dT%H:%M:%S.%LZ"),
      "data_stream" => { "type" => "logs", "dataset" => dataset, "namespace" => @environment },
      "ecs" => { "version" => "8.17.0" },
      "event" => { "created" => read_at, "dataset" => dataset }.compact,
      "kubernetes" => kubernetes(pod),
      "log" => { "iostream" => stream }.compact,
      "service" => { "environment" => @environment }
    }
  end

  def kubernetes(pod)
    {
      "namespace" => pod["namespace_name"],
      "pod" => { "name" => pod["pod_name"], "uid" => pod["pod_id"] }.compact,
      "container" => { "name" => pod["container_name"], "image" => pod["container_image"] }.compact,
      "node" => { "name" => @node },
      # A dot in a name would make an object of it, which another pod's label of that name is not.
      "labels" => pod["labels"]&.transform_keys { |name| name.tr(".", "_") }
    }.compact
  end

  # From what the cluster knows of the pod, never from the line: it names an index.
  def component(pod)
    pod.dig("labels", COMPONENT) || pod["container_name"] || "unknown"
  end

  def cut(text)
    return text if text.length <= LONGEST_TEXT

    "#{text[0, LONGEST_TEXT]} ... #{text.length - LONGEST_TEXT} characters left out"
  end

  def deep_merge(below, above)
    below.merge(above) { |_, one, other| one.is_a?(Hash) && other.is_a?(Hash) ? deep_merge(one, other) : other }
  end
end
